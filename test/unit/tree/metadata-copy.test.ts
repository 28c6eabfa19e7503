import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { plainAct } from '../../../agent/host/acts.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import type { BundleFile } from '../../../agent/model/bundle.ts';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { copyMetadataTree } from '../../../agent/tree/metadata-copy.ts';

const V2 = 'docker/registry/v2';

describe('the copy of a metadata tree', () => {
  let work: string;
  let from: string;
  let mirror: string;
  let files: BundleFile[];
  const put = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(join(from, path)), { recursive: true });
    await writeFile(join(from, path), text);
    files.push({ path, sizeBytes: text.length, sha256: createHash('sha256').update(text).digest('hex') });
  };
  const copy = async (given: readonly BundleFile[] = files, signal = new AbortController().signal): Promise<void> =>
    await copyMetadataTree(linuxHost({ root: work, env: {}, log: () => {} }), { from, files: given, act: plainAct, signal });
  const copied = async (): Promise<Readonly<Record<string, string>>> => {
    const entries = await readdir(mirror, { recursive: true, withFileTypes: true });
    const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(mirror.length + 1));
    return Object.fromEntries(
      await Promise.all(paths.toSorted().map(async (path) => [path, await readFile(join(mirror, path), 'utf8')] as const)),
    );
  };
  const faultOf = async (act: () => Promise<void>) => {
    const { code, message } = await act().then(() => assert.fail('it was copied'), errorRecord);
    return { code, message: message.replaceAll(work, '') };
  };
  beforeEach(async () => {
    work = await mkdtemp(join(tmpdir(), 'mirror-copy-'));
    from = join(work, 'bundle');
    mirror = join(work, 'run/prestage-agent/mirror');
    files = [];
    for (const text of ['manifest', 'config']) {
      const hex = hexOf(digestOf(text));
      await put(`${V2}/blobs/sha256/${hex.slice(0, 2)}/${hex}/data`, text);
      await put(`${V2}/repositories/quay.io/r/_layers/sha256/${hex}/link`, `sha256:${hex}`);
    }
    await put(`${V2}/repositories/quay.io/r/_manifests/tags/v1/current/link`, digestOf('manifest'));
  });
  afterEach(async () => await rm(work, { recursive: true, force: true }));

  it('has every byte, and says in a file what it was copied from', async () => {
    await copy();
    const { 'copied-from': marker, ...tree } = await copied();
    const expected = await Promise.all(files.map(async ({ path }) => [path, await readFile(join(from, path), 'utf8')] as const));
    assert.deepEqual(tree, Object.fromEntries(expected));
    assert.match(marker ?? '', /^[0-9a-f]{64}$/);
    assert.deepEqual(await readdir(dirname(mirror)), ['mirror']);
  });

  it('has what is small of the operating systems beside it, and links to their layers', async () => {
    const path = join(work, 'os');
    const large = 'l'.repeat(4 * 1024 * 1024 + 1);
    const small = 's'.repeat(4 * 1024 * 1024);
    const listed = [large, small].map((text) => {
      const hex = hexOf(digestOf(text));
      return { path: `${V2}/blobs/sha256/${hex.slice(0, 2)}/${hex}/data`, sizeBytes: text.length, sha256: hex };
    });
    for (const [index, text] of [large, small].entries()) {
      await mkdir(dirname(join(path, listed[index]?.path ?? '')), { recursive: true });
      await writeFile(join(path, listed[index]?.path ?? ''), text);
    }
    // What both have comes from the mirror.
    const [shared] = files;
    assert.ok(shared !== undefined);
    const systems = { path, files: [...listed, { ...shared, sha256: 'a'.repeat(64) }], data: join(work, 'bound') };
    const { signal } = new AbortController();
    const host = linuxHost({ root: work, env: {}, log: () => {} });
    await copyMetadataTree(host, { from, files, systems, act: plainAct, signal });
    assert.equal((await readFile(join(mirror, listed[1]?.path ?? ''))).length, small.length);
    assert.equal(await readFile(join(mirror, shared.path), 'utf8'), await readFile(join(from, shared.path), 'utf8'));
    assert.equal(await readlink(dirname(join(mirror, listed[0]?.path ?? ''))), dirname(join(work, 'bound', listed[0]?.path ?? '')));
    const before = await stat(mirror);
    await copyMetadataTree(host, { from, files, systems, act: plainAct, signal });
    assert.equal((await stat(mirror)).ino, before.ino);
    await copyMetadataTree(host, { from, files, act: plainAct, signal });
    assert.equal(existsSync(join(mirror, listed[1]?.path ?? '')), false);
  });

  it('does not read links: what they say follows from their hash', async () => {
    const link = files.find(({ path }) => path.endsWith('/current/link')) ?? assert.fail();
    await writeFile(join(from, link.path), digestOf('config'));
    await copy();
    assert.equal((await copied())[link.path], digestOf('manifest'));
  });

  it('stays as it is for the same files, and is replaced for others', async () => {
    await copy();
    const before = await stat(mirror);
    await copy();
    assert.equal((await stat(mirror)).ino, before.ino);
    await put('docker/more', 'more');
    await copy();
    assert.equal((await copied())['docker/more'], 'more');
  });

  it('is made again where a run was killed in the middle of it', async () => {
    await mkdir(join(`${mirror}.new`, 'docker'), { recursive: true });
    await writeFile(join(`${mirror}.new`, 'docker/left'), '');
    await copy();
    assert.equal('docker/left' in (await copied()), false);
    assert.deepEqual(await readdir(dirname(mirror)), ['mirror']);
  });

  const attacks: readonly { readonly what: string; readonly change: (path: string) => Promise<void>; readonly got: string }[] = [
    {
      what: 'another byte',
      change: async (path) => await writeFile(path, 'manifesT'),
      got: `it has 8 bytes and the sha256 ${createHash('sha256').update('manifesT').digest('hex')}`,
    },
    { what: 'more bytes', change: async (path) => await writeFile(path, 'manifest and more'), got: 'it is larger than 8 bytes' },
    { what: 'no file', change: async (path) => await rm(path), got: 'it does not exist' },
    {
      what: 'a symbolic link',
      change: async (path) => {
        await rm(path);
        await symlink('/etc/passwd', path);
      },
      got: 'its path leads through a symbolic link that cannot be followed',
    },
    {
      what: 'a directory',
      change: async (path) => {
        await rm(path);
        await mkdir(path);
      },
      got: 'it is not a plain file',
    },
  ];
  for (const { what, change, got } of attacks) {
    it(`refuses a file that has become ${what}, and leaves no copy that looks whole`, async () => {
      const file = files.find(({ sizeBytes }) => sizeBytes === 'manifest'.length) ?? assert.fail();
      await change(join(from, file.path));
      const { code, message } = await faultOf(copy);
      const begin = `/bundle/${file.path} does not match prestage.json, which lists 8 bytes with the sha256 ${file.sha256}: ${got}`;
      assert.deepEqual([code, message.slice(0, begin.length)], ['ERR_BUNDLE_FILE', begin]);
      assert.deepEqual(await readdir(dirname(mirror)), ['mirror.new']);
    });
  }

  it('refuses paths that lead out, and files that are no metadata, before anything is written', async () => {
    const sha256 = 'a'.repeat(64);
    const lists: readonly (readonly BundleFile[])[] = [
      [{ path: '../out', sizeBytes: 1, sha256 }],
      [{ path: 'docker/large', sizeBytes: 17 * 1024 * 1024, sha256 }],
      Array.from({ length: 33 }, (_, index) => ({ path: `docker/${index}`, sizeBytes: 16 * 1024 * 1024, sha256 })),
    ];
    const faults = await Promise.all(lists.map(async (list) => await faultOf(async () => await copy(list))));
    const limits = 'but links, manifests and configs may have at most 16777216 each and 536870912 together';
    assert.deepEqual(faults, [
      { code: 'ERR_BUNDLE_FILE', message: `/bundle cannot be kept in memory: it has "../out" with 1 bytes, ${limits}` },
      { code: 'ERR_BUNDLE_FILE', message: `/bundle cannot be kept in memory: it has "docker/large" with 17825792 bytes, ${limits}` },
      { code: 'ERR_BUNDLE_FILE', message: `/bundle cannot be kept in memory: it has 33 files with 553648128 bytes, ${limits}` },
    ]);
    assert.deepEqual(await readdir(work), ['bundle']);
  });

  it('is given up when the run is', async () => {
    await assert.rejects(copy(files, AbortSignal.abort(new Error('ended'))), { message: 'ended' });
  });
});
