import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type BundleFault, unlistedFiles, verifyFiles } from '../../../agent/bundle/verify-files.ts';
import type { BundleFile } from '../../../agent/model/bundle.ts';

const REMEDY = 'Write the bundle again from the factory; if it fails again, replace the disk';

/** A directory with files of these contents, and their entries of a manifest. */
async function makeFiles(contents: Readonly<Record<string, string>>) {
  const directory = await mkdtemp(join(tmpdir(), 'verify-files-'));
  const files: BundleFile[] = [];
  for (const [path, content] of Object.entries(contents).sort(([a], [b]) => (a < b ? -1 : 1))) {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), content);
    files.push({ path, sizeBytes: Buffer.byteLength(content), sha256: sha256(content) });
  }
  return { directory, files, [Symbol.asyncDispose]: async () => await rm(directory, { recursive: true }) };
}

function sha256(content: string): string {
  return createHash('sha256').update(content).digest('hex');
}

function fault(path: string, message: string): BundleFault {
  return { path, code: 'ERR_BUNDLE_FILE', message, remedy: REMEDY };
}

test('files that are as the manifest says have no faults, quick and full, empty files too', async () => {
  await using made = await makeFiles({ 'a.txt': 'a', 'oci/blobs/sha256/b': 'bb', empty: '' });
  assert.deepEqual(await verifyFiles(made.directory, made.files, { parallel: 2, mode: 'quick' }), []);
  assert.deepEqual(await verifyFiles(made.directory, made.files, { parallel: 2, mode: 'full' }), []);
});

test('every fault is told in the order of the manifest: missing, size, link, linked directory, directory, and bytes of equal size', async () => {
  await using made = await makeFiles({
    'a-missing': 'x',
    'b-short': 'abc',
    'c-link': 'abc',
    'd/linked': 'abc',
    'e-directory': 'abc',
    'f-bytes': 'abc',
    'g-good': 'abc',
  });
  const at = (path: string) => join(made.directory, path);
  await rm(at('a-missing'));
  await truncate(at('b-short'), 2);
  await rm(at('c-link'));
  await symlink('g-good', at('c-link'));
  await rm(at('d'), { recursive: true });
  await mkdir(at('real'));
  await writeFile(at('real/linked'), 'abc');
  await symlink('real', at('d'));
  await rm(at('e-directory'));
  await mkdir(at('e-directory'));
  await writeFile(at('f-bytes'), 'abd');

  const quick = [
    fault('a-missing', `${at('a-missing')} is missing`),
    fault('b-short', `${at('b-short')} has 2 bytes, but the manifest says 3`),
    fault('c-link', `${at('c-link')} is a symbolic link, but the manifest lists a regular file`),
    fault('d/linked', `${at('d/linked')} is missing: ${at('d')} is not a directory`),
    fault('e-directory', `${at('e-directory')} is not a regular file, but the manifest lists a regular file`),
  ];
  assert.deepEqual(await verifyFiles(made.directory, made.files, { parallel: 2, mode: 'quick' }), quick);
  assert.deepEqual(await verifyFiles(made.directory, made.files, { parallel: 2, mode: 'full' }), [
    ...quick,
    fault('f-bytes', `${at('f-bytes')} has the sha256 ${sha256('abd')}, but the manifest says ${sha256('abc')}`),
  ]);
});

test('one flipped bit anywhere in any file is found', async () => {
  await using made = await makeFiles(Object.fromEntries([1, 2, 3].map((n) => [`file-${n}`, String(n).repeat(5000 * n)])));
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 2 }),
      fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
      async (index, place) => {
        const [path, content] = [`file-${index + 1}`, String(index + 1).repeat(5000 * (index + 1))];
        const bytes = Buffer.from(content);
        const at = Math.floor(place * bytes.length);
        bytes[at] = (bytes[at] ?? 0) ^ 1;
        await writeFile(join(made.directory, path), bytes);
        const found = await verifyFiles(made.directory, made.files, { parallel: 1, mode: 'full' });
        await writeFile(join(made.directory, path), content);
        assert.deepEqual(
          found.map((one) => one.path),
          [path],
        );
      },
    ),
    { numRuns: 8 },
  );
});

test('a file whose pieces the manifest has is compared with them, too, and the first that is another is named', async () => {
  await using made = await makeFiles({ image: 'aabbc', other: 'aabbc' });
  const at = join(made.directory, 'image');
  const found = async (...texts: readonly string[]) => {
    const pieces = new Map([['image', { sizeBytes: 2, sha256: texts.map(sha256) }]]);
    return await verifyFiles(made.directory, made.files, { parallel: 1, mode: 'full', pieces });
  };
  assert.deepEqual(await found('aa', 'bb', 'c'), []);
  const wrong = await found('aa', 'bx', 'x');
  assert.deepEqual(wrong, [
    {
      path: 'image',
      code: 'ERR_BUNDLE_FILE',
      message: `${at}: piece 2 of 3 has the sha256 ${sha256('bb')}, but the manifest says ${sha256('bx')}`,
      remedy: 'Build the bundle again at the factory',
    },
  ]);
  await writeFile(at, 'aabbd');
  assert.deepEqual(await found('aa', 'bb', 'd'), [
    fault('image', `${at} has the sha256 ${sha256('aabbd')}, but the manifest says ${sha256('aabbc')}`),
  ]);
});

test('progress ends with the bytes of all files and never falls', async () => {
  await using made = await makeFiles({ a: 'a'.repeat(3_000_000), b: 'b'.repeat(10), c: '' });
  const seen: number[] = [];
  await verifyFiles(made.directory, made.files, { parallel: 2, mode: 'full', onProgress: (bytes) => seen.push(bytes) });
  assert.equal(seen.at(-1), 3_000_010);
  assert.deepEqual(
    seen,
    seen.toSorted((a, b) => a - b),
  );
});

test('a signal ends the work with its reason', async () => {
  await using made = await makeFiles({ a: 'a' });
  const signal = AbortSignal.abort(new Error('enough'));
  await assert.rejects(verifyFiles(made.directory, made.files, { parallel: 1, mode: 'full', signal }), { message: 'enough' });
});

test('what lies in the folder and is not in the manifest is named, a foreign directory as one', async () => {
  await using made = await makeFiles({ 'oci/index.json': '{}', 'README.txt': 'r' });
  await writeFile(join(made.directory, 'prestage.json'), '{}');
  await writeFile(join(made.directory, 'oci/other'), '');
  await mkdir(join(made.directory, 'lost+found'));
  await symlink('README.txt', join(made.directory, 'link'));
  assert.deepEqual(await unlistedFiles(made.directory, made.files), ['link', 'lost+found/', 'oci/other']);
});
