import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { linuxHost } from '../../agent/host/linux.ts';
import { plainStep } from '../../agent/host/steps.ts';
import { errorRecord } from '../../agent/model/errors.ts';
import { keepBundle } from '../../agent/reconcile/disk-bundle.ts';

const MIRROR = 'store/installed.mirror';
const LISTED = { 'docker/one': 'manifest', 'docker/a/two': 'config' };
const MANIFEST = '{ "of": "the bundle" }\n';
const sha256Of = (text: string): string => createHash('sha256').update(text).digest('hex');

describe('what the root disk keeps of a bundle whose partition is hostile', () => {
  let work: string;
  let directory: string;
  beforeEach(async () => {
    work = await mkdtemp(join(tmpdir(), 'keep-bundle-'));
    directory = join(work, 'partition');
    for (const [path, text] of Object.entries(LISTED)) {
      await mkdir(dirname(join(directory, MIRROR, path)), { recursive: true });
      await writeFile(join(directory, MIRROR, path), text);
    }
    await writeFile(join(directory, 'prestage.json'), MANIFEST);
  });
  afterEach(async () => await rm(work, { recursive: true, force: true }));

  const keep = async (): Promise<void> => {
    const files = Object.entries(LISTED).map(([path, text]) => ({ path, sizeBytes: text.length, sha256: sha256Of(text) }));
    const mirror = { path: join(directory, MIRROR), files };
    const host = linuxHost({ root: join(work, 'node'), env: {}, log: () => {} });
    await keepBundle(
      { directory, sealedSha256: sha256Of(MANIFEST), store: { mirror, osTree: undefined } },
      { host, step: plainStep, stop: new AbortController().signal },
    );
  };
  const kept = async (): Promise<Readonly<Record<string, string>>> => {
    const top = join(work, 'node/var/lib/prestage-agent/bundle');
    const entries = await readdir(top, { recursive: true, withFileTypes: true });
    const others = entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
    return Object.fromEntries(
      await Promise.all(others.map(async (path) => [path.slice(top.length + 1), await readFile(path, 'utf8')] as const)),
    );
  };
  const whole = Object.fromEntries([
    ...Object.entries(LISTED).map(([path, text]) => [`${MIRROR}/${path}`, text]),
    ['prestage.json', MANIFEST],
  ]);
  const refusal = async () => {
    const { code, message } = errorRecord(
      await keep().then(
        () => assert.fail('it was kept'),
        (error: unknown) => error,
      ),
    );
    return [code, message.replaceAll(work, '')];
  };

  it('is the manifest and the files of the mirror that the manifest lists', async () => {
    await keep();
    assert.deepEqual(await kept(), whole);
  });

  it('is no file that lies beside them, however large, and nothing behind a link', async () => {
    const large = join(directory, MIRROR, 'docker/large');
    await writeFile(large, '');
    await truncate(large, 64 * 2 ** 20);
    await symlink('/etc', join(directory, MIRROR, 'docker/etc'));
    await writeFile(join(directory, 'store/other'), 'other');
    await keep();
    assert.deepEqual(await kept(), whole);
  });

  it('is nothing when a listed file has other bytes', async () => {
    await writeFile(join(directory, MIRROR, 'docker/one'), 'manifesT');
    assert.deepEqual(await refusal(), [
      'ERR_BUNDLE_FILE',
      `/partition/${MIRROR}/docker/one is not as prestage.json has it, 8 bytes with the sha256 ${sha256Of('manifest')}: it has 8 bytes and the sha256 ${sha256Of('manifesT')}`,
    ]);
    await assert.rejects(kept(), { code: 'ENOENT' });
  });

  it('is nothing when the manifest was exchanged after it was read', async () => {
    await writeFile(join(directory, 'prestage.json'), '{}');
    assert.deepEqual(await refusal(), [
      'ERR_BUNDLE_PIN',
      `/partition/prestage.json has the sha256 ${sha256Of('{}')}, and ${sha256Of(MANIFEST)} is pinned`,
    ]);
    await assert.rejects(kept(), { code: 'ENOENT' });
  });

  it('is nothing when the manifest has become a link', async () => {
    await rename(join(directory, 'prestage.json'), join(work, 'elsewhere'));
    await symlink(join(work, 'elsewhere'), join(directory, 'prestage.json'));
    assert.deepEqual(await refusal(), ['ERR_BUNDLE', '/partition/prestage.json cannot be read: ELOOP']);
    await assert.rejects(kept(), { code: 'ENOENT' });
  });
});
