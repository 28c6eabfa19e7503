import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { filesOf, inflaters, NAME, rejection, survey, unpack, workDirectory } from '../../support/archive-jobs.ts';
import {
  type Layout,
  layoutEntries,
  type MadeLayout,
  makeLayout,
  makeListLayout,
  POSIX_MAGIC,
  paxEntry,
  tarStream,
  tgz,
} from '../../support/tar.ts';

const layout = makeLayout();
const [firstLayer = layout.config, secondLayer = layout.config] = layout.layers;
const listed = makeListLayout([
  { architecture: 'amd64', layout },
  { architecture: 'arm64', layout: makeLayout(undefined, 'arm64') },
]);

/** The files in the order of their names, as `filesOf` gives them. */
const sorted = (files: Layout): Map<string, Buffer> => new Map([...files].sort(([a], [b]) => (a < b ? -1 : 1)));
const only = (files: Layout, names: readonly string[]): Map<string, Buffer> =>
  sorted(new Map([...files].filter(([name]) => names.includes(name))));

describe('an archive', () => {
  it('gives its digests and its image to a survey, which reads no further than the manifest', async () => {
    await using work = await workDirectory();
    const large = makeLayout([
      Buffer.from('small'),
      ...Array.from({ length: 40 }, (_, index) => Buffer.from(hexOf(digestOf(String(index))).repeat(2000))),
    ]);
    const bytes = tgz(
      layoutEntries(NAME, new Map([...large.files].sort(([a], [b]) => Number(b === 'manifest.json') - Number(a === 'manifest.json')))),
    );
    const path = await work.archive(Buffer.concat([bytes, Buffer.alloc(2 ** 20)]));
    const { image, bytesRead, ...found } = await survey({ path });
    assert.deepEqual(found, {
      topDigest: large.topDigest,
      imageDigest: large.topDigest,
      instances: 1,
      archiveBytes: bytes.length + 2 ** 20,
    });
    assert.deepEqual([image.config.digest, image.layers.map(({ digest }) => digest)], [large.config, large.layers]);
    assert.ok(bytesRead < bytes.length + 2 ** 20, `${bytesRead} bytes`);
  });

  it('is unpacked as far as is asked for, and its config always', async () => {
    await using work = await workDirectory();
    const bytes = tgz(layoutEntries(NAME, layout.files));
    const path = await work.archive(bytes);
    const to = await work.empty();
    const expected = only(layout.files, ['version', 'manifest.json', hexOf(layout.config), hexOf(secondLayer)]);
    assert.deepEqual(await unpack({ path, to, writeBlobs: [secondLayer] }), {
      topDigest: layout.topDigest,
      bytesRead: bytes.length,
      bytesWritten: [...expected.values()].reduce((sum, { length }) => sum + length, 0),
      blobs: 3,
    });
    assert.deepEqual(await filesOf(to), expected);
    assert.equal((await stat(join(to, hexOf(secondLayer)))).mode & 0o7777, 0o600);
  });

  it('is unpacked with its config where manifest.json stands last', async () => {
    await using work = await workDirectory();
    const path = await work.archive(tgz(layoutEntries(NAME, new Map([...layout.files].reverse()))));
    const to = await work.empty();
    await unpack({ path, to });
    assert.deepEqual(await filesOf(to), only(layout.files, ['version', 'manifest.json', hexOf(layout.config)]));
  });

  it('is refused where its config stands before manifest.json and is no JSON object', async () => {
    await using work = await workDirectory();
    const odd = makeLayout([Buffer.from('layer')]);
    const config = Buffer.from(' {"architecture":"amd64"}');
    const manifest = Buffer.from(
      String(odd.files.get('manifest.json'))
        .replace(odd.config, digestOf(config))
        .replace(/"size":\d+/, `"size":${config.length}`),
    );
    const files = new Map([
      [hexOf(digestOf(config)), config],
      ...[...odd.files, ['manifest.json', manifest] as const].filter(([name]) => name !== hexOf(odd.config)),
    ]);
    const path = await work.archive(tgz(layoutEntries(NAME, new Map([...files].sort(([a]) => (a === 'manifest.json' ? 1 : 0))))));
    assert.deepEqual(await rejection(unpack({ path, to: await work.empty() })), {
      code: 'ERR_ARCHIVE_LAYOUT',
      message: `${path}: config ${digestOf(config)} is not a JSON object of at most 4194304 bytes, or comes after too many others`,
      remedy: 'Write the archive again at the factory',
    });
  });

  it('of several architectures gives the list, the image that is asked for, and that config alone', async () => {
    await using work = await workDirectory();
    const path = await work.archive(tgz(layoutEntries(NAME, listed.files)));
    const { image: _, bytesRead: __, archiveBytes: ___, ...found } = await survey({ path });
    assert.deepEqual(found, { topDigest: listed.topDigest, imageDigest: layout.topDigest, instances: 2 });
    const to = await work.empty();
    const { blobs } = await unpack({ path, to, writeBlobs: [firstLayer] });
    assert.equal(blobs, 6);
    const manifests = [...listed.files.keys()].filter((name) => name.endsWith('manifest.json'));
    assert.deepEqual(await filesOf(to), only(listed.files, ['version', ...manifests, hexOf(layout.config), hexOf(firstLayer)]));
  });

  it('whose list names platforms that were not copied is unpacked', async () => {
    await using work = await workDirectory();
    const sparse = new Map(
      [...listed.files].filter(([name]) => layout.files.has(name) || name === `${hexOf(layout.topDigest)}.manifest.json`),
    );
    const path = await work.archive(tgz(layoutEntries(NAME, sparse)));
    assert.deepEqual((await unpack({ path, to: await work.empty() })).topDigest, listed.topDigest);
  });

  it('is read with zero blocks between its members, as multi-part tars have them', async () => {
    await using work = await workDirectory();
    const entries = layoutEntries(NAME, layout.files);
    const path = await work.archive(gzipSync(Buffer.concat([tarStream(entries.slice(0, 2)), tarStream(entries.slice(2))])));
    assert.equal((await unpack({ path, to: await work.empty() })).blobs, 3);
  });

  it('keeps its signatures', async () => {
    await using work = await workDirectory();
    const signed = new Map([
      ...layout.files,
      ['signature-1', Buffer.from('signed')],
      [`${hexOf(layout.topDigest)}.signature-2`, Buffer.alloc(0)],
    ] as const);
    const path = await work.archive(tgz(layoutEntries(NAME, signed)));
    const to = await work.empty();
    await unpack({ path, to, writeBlobs: layout.layers });
    assert.deepEqual(await filesOf(to), sorted(signed));
  });
});

describe('any layout in any order of members', () => {
  const layers = fc.array(fc.uint8Array({ maxLength: 3000 }), { maxLength: 5 });
  const layouts: fc.Arbitrary<MadeLayout> = fc.oneof(
    layers.map((made) => makeLayout(made)),
    fc.tuple(layers, layers).map(([amd64, arm64]) =>
      makeListLayout([
        { architecture: 'amd64', layout: makeLayout(amd64) },
        { architecture: 'arm64', layout: makeLayout(arm64, 'arm64') },
      ]),
    ),
  );
  const archives = layouts.chain((made) =>
    fc.record({
      made: fc.constant(made),
      order: fc.shuffledSubarray([...made.files], { minLength: made.files.size }),
      prefix: fc.constantFrom('', './'),
      hasDirectory: fc.boolean(),
      hasPax: fc.boolean(),
    }),
  );
  for (const { title, inflater } of inflaters) {
    it(`is surveyed and unpacked equal, inflated with ${title}`, async () => {
      await using work = await workDirectory();
      await fc.assert(
        fc.asyncProperty(archives, async ({ made, order, prefix, hasDirectory, hasPax }) => {
          const entries = layoutEntries(`${prefix}${NAME}`, new Map(order)).slice(hasDirectory ? 0 : 1);
          const pax = (name: string): Buffer[] => (hasPax ? [paxEntry({ path: name, mtime: '1.5' })] : []);
          const path = await work.archive(
            tgz(entries.flatMap((entry) => [...pax(String(entry.name)), hasPax ? { ...entry, name: 'short', magic: POSIX_MAGIC } : entry])),
          );
          const to = await work.empty();
          const { image, topDigest, imageDigest } = await survey({ path }, inflater);
          assert.deepEqual([topDigest, imageDigest], [made.topDigest, made.imageDigest]);
          const writeBlobs = image.layers.map(({ digest }) => digest);
          const { blobs } = await unpack({ path, to, writeBlobs, layers: image.layers }, inflater);
          const blobNames = [...made.files.keys()].filter((name) => /^[0-9a-f]{64}$/.test(name));
          assert.equal(blobs, blobNames.length);
          const wanted = [...made.files.keys()].filter((name) => !blobNames.includes(name));
          assert.deepEqual(await filesOf(to), only(made.files, [...wanted, hexOf(made.config), ...writeBlobs.map(hexOf)]));
        }),
        { numRuns: 100 },
      );
    });
  }
});
