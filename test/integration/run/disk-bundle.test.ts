import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { plainAct } from '../../../agent/host/acts.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { BUNDLE_VERSION, formatBundle, signaturePath } from '../../../agent/model/bundle.ts';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { treeBlobPath } from '../../../agent/model/registry-path.ts';
import { keepBundle } from '../../../agent/run/disk-bundle.ts';
import type { OsTree } from '../../../agent/tree/os-tree.ts';

const MIRROR = 'store/installed.mirror';
const LISTED = { 'docker/one': 'manifest', 'docker/a/two': 'config' };
const MANIFEST = '{ "of": "the bundle" }\n';
const SIGNATURE = 'an OpenPGP message';
const IMAGES = [
  {
    reference: 'quay.io/a/b:1',
    signatures: [SIGNATURE, 'another'].map((text) => ({ kind: 'gpg' as const, subject: digestOf('image'), file: digestOf(text) })),
  },
];
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
    await mkdir(join(directory, 'signatures/sha256'), { recursive: true });
    await writeFile(join(directory, signaturePath(digestOf(SIGNATURE))), SIGNATURE);
    await symlink('/etc/hostname', join(directory, signaturePath(digestOf('another'))));
  });
  afterEach(async () => await rm(work, { recursive: true, force: true }));

  const keep = async (osTree?: OsTree, manifest = MANIFEST): Promise<void> => {
    const files = Object.entries(LISTED).map(([path, text]) => ({ path, sizeBytes: text.length, sha256: sha256Of(text) }));
    const mirror = { path: join(directory, MIRROR), files };
    const host = linuxHost({ root: join(work, 'node'), env: {}, log: () => {} });
    await keepBundle(
      { directory, sealedSha256: sha256Of(manifest), images: IMAGES, store: { mirror, osTree } },
      { host, act: plainAct, stop: new AbortController().signal },
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
    [signaturePath(digestOf(SIGNATURE)), SIGNATURE],
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

  it('is the manifest, whole GPG signatures and the files of the mirror that the manifest lists', async () => {
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

  it('has the operating systems, layers too, and gets them if an earlier agent has left them out', async () => {
    const layer = randomBytes(5 * 2 ** 20);
    const inTree = treeBlobPath(digestOf(layer));
    const path = join(directory, 'store/installed.os');
    const files = [
      { path: inTree, sizeBytes: layer.length, sha256: hexOf(digestOf(layer)) },
      { path: 'docker/link', sizeBytes: 4, sha256: sha256Of('link') },
    ];
    await mkdir(dirname(join(path, inTree)), { recursive: true });
    await writeFile(join(path, inTree), layer);
    await writeFile(join(path, 'docker/link'), 'link');
    const manifest = formatBundle({
      apiVersion: BUNDLE_VERSION,
      kind: 'Bundle',
      release: '',
      architecture: 'amd64',
      createdAt: '2024-01-01T00:00:00Z',
      createdBy: { name: 'prestage-agent', version: '1' },
      stages: {},
      payloads: [],
      files: [],
    });
    await writeFile(join(directory, 'prestage.json'), manifest);
    await keep(undefined, manifest);
    await keep({ path, files }, manifest);
    const copy = join(work, 'node/var/lib/prestage-agent/bundle/store/installed.os');
    assert.deepEqual((await readdir(copy)).toSorted(), ['docker']);
    assert.ok((await readFile(join(copy, inTree))).equals(layer));
    assert.equal(await readFile(join(copy, 'docker/link'), 'utf8'), 'link');
    // What is there whole is not copied again.
    const before = await stat(join(copy, inTree));
    await keep({ path, files }, manifest);
    assert.equal((await stat(join(copy, inTree))).ino, before.ino);
    await rm(join(work, 'node'), { recursive: true });
    layer[0] = (layer[0] ?? 0) ^ 1;
    await writeFile(join(path, inTree), layer);
    const { code, message } = await keep({ path, files }, manifest).then(() => assert.fail('it was kept'), errorRecord);
    assert.equal(code, 'ERR_BUNDLE_FILE');
    assert.match(message.replaceAll(work, ''), /^\/partition\/store\/installed\.os\/.*\/data .*sha256/);
    await truncate(join(path, inTree), 100);
    await assert.rejects(keep({ path, files }, manifest), {
      code: 'ERR_BUNDLE_FILE',
      message: /is not the layer of an operating system that prestage\.json lists, 5242880 bytes: it has 100 bytes$/,
    });
  });

  it('is nothing when a listed file has other bytes', async () => {
    await writeFile(join(directory, MIRROR, 'docker/one'), 'manifesT');
    assert.deepEqual(await refusal(), [
      'ERR_BUNDLE_FILE',
      `/partition/${MIRROR}/docker/one does not match prestage.json, which lists 8 bytes with the sha256 ${sha256Of('manifest')}: it has 8 bytes and the sha256 ${sha256Of('manifesT')}`,
    ]);
    await assert.rejects(kept(), { code: 'ENOENT' });
  });

  it('is nothing when the manifest was exchanged after it was read', async () => {
    await writeFile(join(directory, 'prestage.json'), '{}');
    assert.deepEqual(await refusal(), [
      'ERR_BUNDLE_PIN',
      `/partition/prestage.json has the sha256 ${sha256Of('{}')}, but ${sha256Of(MANIFEST)} is pinned`,
    ]);
    await assert.rejects(kept(), { code: 'ENOENT' });
  });

  it('is nothing when the manifest has become a link', async () => {
    await rename(join(directory, 'prestage.json'), join(work, 'elsewhere'));
    await symlink(join(work, 'elsewhere'), join(directory, 'prestage.json'));
    assert.deepEqual(await refusal(), [
      'ERR_BUNDLE',
      '/partition/prestage.json cannot be read: its path leads through a symbolic link that cannot be followed',
    ]);
    await assert.rejects(kept(), { code: 'ENOENT' });
  });
});
