import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { digestOf, hexOf } from '../../agent/model/digest.ts';
import type { ErrorCode } from '../../agent/model/errors.ts';
import { inflaters, NAME, rejection, survey, unpack, workDirectory } from '../support/archive-jobs.ts';
import {
  base256,
  gzipMember,
  layoutEntries,
  makeLayout,
  makeListLayout,
  POSIX_MAGIC,
  paxEntry,
  type TarEntry,
  tarStream,
  tgz,
} from '../support/tar.ts';

const REMEDY = 'Write the archive again at the factory';
const layout = makeLayout();
const { files, config, layers } = layout;
const entries = layoutEntries(NAME, files);
const valid = tgz(entries);
const [layer = config] = layers;

/** An archive that holds all that it must, and one thing more in front of it. */
const withEntry = (...extra: readonly (TarEntry | Buffer)[]): Buffer => tgz([...extra, ...entries]);
const member = (file: string, more: Partial<TarEntry> = {}): TarEntry => ({ name: `${NAME}/${file}`, ...more });
const without = (file: string): Buffer => tgz(layoutEntries(NAME, new Map([...files].filter(([name]) => name !== file))));
const replaced = (file: string, content: Buffer): Buffer => tgz(layoutEntries(NAME, new Map([...files, [file, content]])));
const manifestWith = (more: object): Buffer => Buffer.from(JSON.stringify({ ...JSON.parse(String(files.get('manifest.json'))), ...more }));
const hex = 'b'.repeat(64);

/** What is wrong, the archive's bytes, and the refusal; PATH stands for the archive's path. */
const attacks: readonly [string, Buffer, ErrorCode, string][] = [
  // gzip
  ['an empty file', Buffer.alloc(0), 'ERR_ARCHIVE_TRUNCATED', 'the file is empty'],
  [
    'a page that was saved as an archive',
    Buffer.from('<!DOCTYPE html><title>404'),
    'ERR_ARCHIVE_FORMAT',
    'is not a gzip file: it starts with "<!DOCTYPE html><title>40"',
  ],
  [
    'a tar that is not compressed',
    tarStream(entries),
    'ERR_ARCHIVE_FORMAT',
    `is not a gzip file: it starts with "${NAME}/${'\\u0000'.repeat(11)}"`,
  ],
  ['a header cut short', valid.subarray(0, 9), 'ERR_ARCHIVE_TRUNCATED', 'the file ends in the gzip header, or the header is too long'],
  [
    'a header without end',
    Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3]), Buffer.alloc(200_000, 1)]),
    'ERR_ARCHIVE_TRUNCATED',
    'the file ends in the gzip header, or the header is too long',
  ],
  ['a header and nothing more', valid.subarray(0, 18), 'ERR_ARCHIVE_TRUNCATED', 'the file ends after 18 bytes, before its content does'],
  [
    'another compression method',
    Buffer.from([0x1f, 0x8b, 7, ...valid.subarray(3)]),
    'ERR_ARCHIVE_FORMAT',
    'its compression method is 7, but gzip allows only 8',
  ],
  [
    'reserved flags',
    Buffer.from([0x1f, 0x8b, 8, 0x80, ...valid.subarray(4)]),
    'ERR_ARCHIVE_FORMAT',
    'its gzip header has reserved flags (128)',
  ],
  [
    'half of an archive',
    valid.subarray(0, 40_000),
    'ERR_ARCHIVE_TRUNCATED',
    'the file ends after 40000 bytes, before its gzip stream does',
  ],
  [
    'an archive without its last byte',
    valid.subarray(0, -1),
    'ERR_ARCHIVE_TRUNCATED',
    `the file ends after ${valid.length - 1} bytes, before its gzip stream does`,
  ],
  [
    'an archive without its trailer',
    valid.subarray(0, -8),
    'ERR_ARCHIVE_TRUNCATED',
    `the file ends after ${valid.length - 8} bytes, before its gzip stream does`,
  ],
  [
    'one byte behind the archive',
    Buffer.concat([valid, Buffer.alloc(1)]),
    'ERR_ARCHIVE_TRAILING',
    'the file continues after the end of its gzip stream',
  ],
  [
    'zeros behind the archive',
    Buffer.concat([valid, Buffer.alloc(512)]),
    'ERR_ARCHIVE_TRAILING',
    'the file continues after the end of its gzip stream',
  ],
  [
    'a copy of the trailer behind the archive',
    Buffer.concat([valid, valid.subarray(-8)]),
    'ERR_ARCHIVE_TRAILING',
    'the file continues after the end of its gzip stream',
  ],
  ['a second gzip member', Buffer.concat([valid, valid]), 'ERR_ARCHIVE_TRAILING', 'the file continues after the end of its gzip stream'],
  [
    'an empty second gzip member',
    Buffer.concat([valid, gzipSync('')]),
    'ERR_ARCHIVE_TRAILING',
    'the file continues after the end of its gzip stream',
  ],
  [
    'a wrong CRC-32',
    withTrailer({ crc: 0 }),
    'ERR_ARCHIVE_DAMAGED',
    `its content has CRC-32 ${crcText(valid)}, but its trailer says 00000000`,
  ],
  [
    'a wrong length',
    withTrailer({ lengthBytes: 1 }),
    'ERR_ARCHIVE_DAMAGED',
    `its content has ${tarStream(entries).length} bytes, but its trailer says 1 (modulo 4 GiB)`,
  ],
  [
    'a DEFLATE stream of no block type',
    gzipMember(Buffer.alloc(100, 0xff), { crc: 0, lengthBytes: 0 }),
    'ERR_ARCHIVE_DAMAGED',
    'its gzip stream is damaged before byte 110',
  ],
  // tar
  [
    'text in place of a tar',
    gzipSync('hello '.repeat(200)),
    'ERR_ARCHIVE_TAR',
    'its tar stream cannot be read: Invalid tar header. Maybe the tar is corrupted or it needs to be gunzipped?',
  ],
  [
    'a wrong header checksum',
    withEntry(member(hex, { checksum: 1 })),
    'ERR_ARCHIVE_TAR',
    'its tar stream cannot be read: Invalid tar header. Maybe the tar is corrupted or it needs to be gunzipped?',
  ],
  [
    'a format without a magic',
    withEntry(member(hex, { magic: '\0\0\0\0\0\0\0\0' })),
    'ERR_ARCHIVE_TAR',
    'its tar stream cannot be read: Invalid tar header: unknown format.',
  ],
  [
    'a tar that ends within a member',
    gzipSync(tarStream(entries).subarray(0, -1024 - 512)),
    'ERR_ARCHIVE_TAR',
    'its tar stream cannot be read: Unexpected end of data',
  ],
  [
    'a tar that ends within a header',
    gzipSync(tarStream(entries).subarray(0, -1024 + 100)),
    'ERR_ARCHIVE_TAR',
    'its tar stream cannot be read: Unexpected end of data',
  ],
  [
    'a pax header that is too large',
    withEntry(member('x', { type: 'x', size: 5_000_000 })),
    'ERR_ARCHIVE_TAR',
    'its tar stream cannot be read: Header exceeds max size',
  ],
  ['a negative size', withEntry(member(hex, { size: base256(-512n) })), 'ERR_ARCHIVE_SIZE', 'a member has an impossible size'],
  [
    'a size that is no number',
    withEntry(member(hex, { size: Buffer.from('zzzzzzzzzzz\0') })),
    'ERR_ARCHIVE_SIZE',
    'a member has an impossible size',
  ],
  [
    'a size beyond exact numbers',
    withEntry(member(hex, { size: base256(2n ** 70n) })),
    'ERR_ARCHIVE_SIZE',
    `member "${NAME}/${hex}" has the impossible size ${2 ** 70}`,
  ],
  [
    'a pax header with a negative size',
    withEntry(paxEntry({ size: '-512' }), member(hex)),
    'ERR_ARCHIVE_SIZE',
    'a member has an impossible size',
  ],
  // entries
  ['an absolute path', withEntry({ name: `/${NAME}/version` }), 'ERR_ARCHIVE_ABSOLUTE', `member "/${NAME}/version" has an absolute path`],
  [
    'an absolute path in a pax header',
    withEntry(paxEntry({ path: '/etc/passwd' }), member('version')),
    'ERR_ARCHIVE_ABSOLUTE',
    'member "/etc/passwd" has an absolute path',
  ],
  [
    'an absolute path in a GNU long name',
    withEntry({ name: `/${'x'.repeat(120)}` }),
    'ERR_ARCHIVE_ABSOLUTE',
    `member "/${'x'.repeat(120)}" has an absolute path`,
  ],
  [
    'a path that climbs',
    withEntry(member('../../etc/passwd')),
    'ERR_ARCHIVE_ESCAPE',
    `member "${NAME}/../../etc/passwd" leads out of the archive with ".."`,
  ],
  [
    'a path that climbs in a pax header',
    withEntry(paxEntry({ path: `${NAME}/../x` }), member('version')),
    'ERR_ARCHIVE_ESCAPE',
    `member "${NAME}/../x" leads out of the archive with ".."`,
  ],
  ['a deeper path', withEntry(member('a/b')), 'ERR_ARCHIVE_NESTED', `member "${NAME}/a/b" is nested more than one directory deep`],
  [
    'a directory within',
    withEntry(member('a/', { type: '5' })),
    'ERR_ARCHIVE_NESTED',
    `member "${NAME}/a/" is nested more than one directory deep`,
  ],
  ['another top directory', tgz(layoutEntries('other', files)), 'ERR_ARCHIVE_TOP', `member "other/" is outside the directory "${NAME}"`],
  [
    'files without a top directory',
    tgz([{ name: './', type: '5' }, { name: './version' }]),
    'ERR_ARCHIVE_TOP',
    `member "./" is outside the directory "${NAME}"`,
  ],
  [
    'a symbolic link',
    withEntry(member(hex, { type: '2', linkName: '/etc/shadow' })),
    'ERR_ARCHIVE_SYMLINK',
    `member "${NAME}/${hex}" is a symbolic link`,
  ],
  [
    'a symbolic link in place of the directory',
    withEntry({ name: NAME, type: '2', linkName: '/etc' }),
    'ERR_ARCHIVE_SYMLINK',
    `member "${NAME}" is a symbolic link`,
  ],
  [
    'a hard link',
    withEntry(member(hex, { type: '1', linkName: `${NAME}/version` })),
    'ERR_ARCHIVE_HARDLINK',
    `member "${NAME}/${hex}" is a hard link`,
  ],
  ['a character device', withEntry(member(hex, { type: '3' })), 'ERR_ARCHIVE_DEVICE', `member "${NAME}/${hex}" is a character device`],
  ['a block device', withEntry(member(hex, { type: '4' })), 'ERR_ARCHIVE_DEVICE', `member "${NAME}/${hex}" is a block device`],
  ['a fifo', withEntry(member(hex, { type: '6' })), 'ERR_ARCHIVE_FIFO', `member "${NAME}/${hex}" is a fifo`],
  [
    'a GNU sparse file',
    withEntry(member(hex, { type: 'S' })),
    'ERR_ARCHIVE_TYPE',
    `member "${NAME}/${hex}" is neither a file nor a directory, but of an unknown type`,
  ],
  [
    'a pax sparse file',
    withEntry(paxEntry({ 'GNU.sparse.major': '1' }), member(hex, { magic: POSIX_MAGIC })),
    'ERR_ARCHIVE_TYPE',
    `member "${NAME}/${hex}" is a sparse file`,
  ],
  [
    'a type nobody knows',
    withEntry(member(hex, { type: 'Z' })),
    'ERR_ARCHIVE_TYPE',
    `member "${NAME}/${hex}" is neither a file nor a directory, but of an unknown type`,
  ],
  [
    'a multi-volume continuation',
    withEntry(member(hex, { type: 'M' })),
    'ERR_ARCHIVE_TYPE',
    `member "${NAME}/${hex}" is neither a file nor a directory, but of an unknown type`,
  ],
  [
    'a file that is not of the layout',
    withEntry(member('install.sh')),
    'ERR_ARCHIVE_LAYOUT',
    `member "${NAME}/install.sh" does not belong to the dir: layout`,
  ],
  [
    'a control character in a name',
    withEntry(member('\u001b[2J')),
    'ERR_ARCHIVE_NAME',
    `member "${NAME}/\\u001b[2J" has control characters or invalid UTF-8 in its name`,
  ],
  [
    'a NUL in a pax name',
    withEntry(paxEntry({ path: `${NAME}/version\0` }), member('version')),
    'ERR_ARCHIVE_NAME',
    `member "${NAME}/version\\u0000" has control characters or invalid UTF-8 in its name`,
  ],
  [
    'a name that is not UTF-8',
    withEntry({ name: Buffer.concat([Buffer.from(`${NAME}/`), Buffer.from([0xff, 0xfe])]) }),
    'ERR_ARCHIVE_NAME',
    `member "${NAME}/\\ufffd\\ufffd" has control characters or invalid UTF-8 in its name`,
  ],
  [
    'a member that is there twice',
    withEntry(member('version', { content: files.get('version') ?? Buffer.alloc(0) })),
    'ERR_ARCHIVE_DUPLICATE',
    `member "${NAME}/version" appears twice`,
  ],
  [
    'a member that a pax header makes the second of its name',
    withEntry(paxEntry({ path: `${NAME}/${hexOf(layer)}` }), member(hex, { content: files.get(hexOf(layer)) ?? Buffer.alloc(0) })),
    'ERR_ARCHIVE_DUPLICATE',
    `member "${NAME}/${hexOf(layer)}" appears twice`,
  ],
  [
    'a manifest of 5 MB',
    withEntry(member('manifest.json', { content: Buffer.alloc(5_000_000) })),
    'ERR_ARCHIVE_OVERSIZE',
    `member "${NAME}/manifest.json" has 5000000 bytes, more than the limit of 4194304`,
  ],
  [
    'a manifest that a pax header makes large',
    withEntry(paxEntry({ size: '5000000' }), member('manifest.json')),
    'ERR_ARCHIVE_OVERSIZE',
    `member "${NAME}/manifest.json" has 5000000 bytes, more than the limit of 4194304`,
  ],
  [
    'a blob of 65 GiB',
    withEntry(member(hex, { size: base256(65n * 2n ** 30n) })),
    'ERR_ARCHIVE_OVERSIZE',
    `member "${NAME}/${hex}" has ${65 * 2 ** 30} bytes, more than the limit of ${2 ** 36}`,
  ],
  [
    '5000 members',
    withEntry(...Array.from({ length: 5000 }, (_, index) => member(`signature-${1 + index}`))),
    'ERR_ARCHIVE_COUNT',
    'has more than 4096 members',
  ],
  // what the layout holds
  ['no version', without('version'), 'ERR_ARCHIVE_MEMBER', 'lacks version'],
  [
    'a version of another layout',
    replaced('version', Buffer.from('Directory Transport Version: 2.0\n')),
    'ERR_ARCHIVE_VERSION',
    'its member version does not start with "Directory Transport Version: 1."',
  ],
  ['no manifest.json', without('manifest.json'), 'ERR_ARCHIVE_MEMBER', 'lacks manifest.json'],
  ['no member at all', tgz([]), 'ERR_ARCHIVE_MEMBER', 'lacks manifest.json'],
  ['no layer', without(hexOf(layer)), 'ERR_ARCHIVE_MEMBER', `lacks blob ${layer}, which manifest.json names`],
  ['no config', without(hexOf(config)), 'ERR_ARCHIVE_MEMBER', `lacks blob ${config}, which manifest.json names`],
  [
    'a layer with the bytes of another',
    replaced(hexOf(layer), Buffer.from('other')),
    'ERR_ARCHIVE_BLOB_SIZE',
    `layer ${layer} has 5 bytes, but its manifest says 3000`,
  ],
  [
    'a layer of the right size with other bytes',
    replaced(hexOf(layer), Buffer.alloc(3000)),
    'ERR_ARCHIVE_DIGEST',
    `layer ${layer} has the digest ${digestOf(Buffer.alloc(3000))}`,
  ],
  [
    'a config with other bytes',
    replaced(hexOf(config), Buffer.from('{}')),
    'ERR_ARCHIVE_DIGEST',
    `config ${config} has the digest sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a`,
  ],
  [
    'a blob that nothing names, with other bytes',
    withEntry(member(hex, { content: Buffer.from('{}') })),
    'ERR_ARCHIVE_DIGEST',
    `blob sha256:${hex} has the digest sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a`,
  ],
  [
    "an instance's manifest with other bytes",
    withEntry(member(`${hex}.manifest.json`, { content: Buffer.from('{}') })),
    'ERR_ARCHIVE_DIGEST',
    `manifest sha256:${hex} has the digest sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a`,
  ],
  ['a manifest that is no JSON', replaced('manifest.json', Buffer.from('404')), 'ERR_MANIFEST', ''],
  [
    'a manifest that names a file in place of a digest',
    replaced('manifest.json', manifestWith({ layers: [{ digest: 'sha256:../../etc/passwd', size: 1 }] })),
    'ERR_MANIFEST',
    '',
  ],
];

for (const { title, inflater } of inflaters) {
  describe(`an archive that is inflated with ${title} is refused`, () => {
    for (const [attack, bytes, code, what] of attacks) {
      it(`for ${attack}`, async () => {
        await using work = await workDirectory();
        const path = await work.archive(bytes);
        const refusal = await rejection(unpack({ path, to: await work.empty(), writeBlobs: layers }, inflater));
        if (code === 'ERR_MANIFEST') assert.deepEqual([refusal.code, refusal.message.startsWith(`${path}: manifest.json`)], [code, true]);
        else assert.deepEqual(refusal, { code, message: `${path}: ${what}`, remedy: REMEDY });
      });
    }
  });
}

describe('an archive is refused for what lies at its path', () => {
  const make: readonly [string, (path: string, work: string) => Promise<unknown>, ErrorCode, string][] = [
    ['nothing', async () => undefined, 'ERR_ARCHIVE_MISSING', 'the file does not exist'],
    ['a directory', async (path) => await mkdir(path), 'ERR_ARCHIVE_READ', 'is not a regular file'],
    [
      'a symbolic link to an archive',
      async (path, work) => {
        await writeFile(join(work, 'elsewhere'), valid);
        await symlink(join(work, 'elsewhere'), path);
      },
      'ERR_ARCHIVE_READ',
      'is a symbolic link, not a regular file',
    ],
  ];
  for (const [what, place, code, message] of make) {
    it(`for ${what}`, async () => {
      await using work = await workDirectory();
      const path = join(work.path, `${NAME}.tgz`);
      await place(path, work.path);
      assert.deepEqual(await rejection(survey({ path })), { code, message: `${path}: ${message}`, remedy: REMEDY });
    });
  }
});

describe('a list in an archive', () => {
  const arm = makeLayout(undefined, 'arm64');
  const list = makeListLayout([
    { architecture: 'amd64', layout },
    { architecture: 'arm64', layout: arm },
  ]);
  const child = `${hexOf(layout.imageDigest)}.manifest.json`;
  const archiveOf = (changed: ReadonlyMap<string, Buffer>): Buffer => tgz(layoutEntries(NAME, changed));
  const changedBy = (change: (changed: Map<string, Buffer>) => void): Buffer => {
    const changed = new Map(list.files);
    change(changed);
    return archiveOf(changed);
  };

  it('is refused where it has no image for the architecture, with those that it has', async () => {
    await using work = await workDirectory();
    const path = await work.archive(archiveOf(list.files));
    const refusal = {
      code: 'ERR_ARCHITECTURE',
      message: `${path}: its list has no image for linux/s390x, only: linux/amd64, linux/arm64`,
      remedy: 'Write an archive at the factory that holds the image for linux/s390x',
    };
    assert.deepEqual(await rejection(survey({ path, architecture: 's390x' })), refusal);
    assert.deepEqual(await rejection(unpack({ path, architecture: 's390x', to: await work.empty() })), refusal);
  });

  it("is refused where the image's own manifest is missing", async () => {
    await using work = await workDirectory();
    const path = await work.archive(changedBy((changed) => changed.delete(child)));
    const refusal = {
      code: 'ERR_ARCHIVE_MEMBER',
      message: `${path}: lacks the manifest of the image for amd64, which its list names`,
      remedy: REMEDY,
    };
    assert.deepEqual(await rejection(survey({ path })), refusal);
    assert.deepEqual(await rejection(unpack({ path, to: await work.empty() })), refusal);
  });

  it('is refused where an image of another architecture lacks its layers', async () => {
    await using work = await workDirectory();
    const [first, second] = arm.layers;
    assert.ok(first !== undefined && second !== undefined);
    const path = await work.archive(changedBy((changed) => changed.delete(hexOf(first)) && changed.delete(hexOf(second))));
    assert.deepEqual(await rejection(unpack({ path, to: await work.empty() })), {
      code: 'ERR_ARCHIVE_MEMBER',
      message: `${path}: lacks blob ${first}, which ${hexOf(arm.imageDigest)}.manifest.json names; blob ${second}, which ${hexOf(arm.imageDigest)}.manifest.json names`,
      remedy: REMEDY,
    });
  });

  it('is refused where it names another list as the image', async () => {
    await using work = await workDirectory();
    const outer = makeListLayout([{ architecture: 'amd64', layout: list }]);
    const path = await work.archive(archiveOf(outer.files));
    assert.deepEqual(await rejection(survey({ path })), {
      code: 'ERR_MANIFEST',
      message: `${path}: its list names another list, ${list.topDigest}, as the image for amd64`,
      remedy: REMEDY,
    });
  });
});

it('a layer of another size than the survey told is refused before a byte of it is written', async () => {
  await using work = await workDirectory();
  const path = await work.archive(
    tgz(layoutEntries(NAME, new Map([[hexOf(layer), Buffer.alloc(9000)], ...[...files].filter(([name]) => name !== hexOf(layer))]))),
  );
  const to = await work.empty();
  const { image } = await survey({ path: await work.archive(valid, 'whole'), name: NAME });
  assert.deepEqual(await rejection(unpack({ path, to, writeBlobs: layers, layers: image.layers })), {
    code: 'ERR_ARCHIVE_BLOB_SIZE',
    message: `${path}: layer ${layer} has 9000 bytes, but its manifest says 3000`,
    remedy: REMEDY,
  });
  assert.deepEqual(await readdir(to), []);
});

it('a file that lies in the directory already is not written to, nor through', async () => {
  await using work = await workDirectory();
  const path = await work.archive(valid);
  const to = await work.empty();
  const victim = join(work.path, 'victim');
  await writeFile(victim, 'as it was');
  await symlink(victim, join(to, hexOf(layer)));
  const refusal = await rejection(unpack({ path, to, writeBlobs: layers }));
  assert.deepEqual(refusal, {
    code: 'ERR_ARCHIVE_WRITE',
    message: `${join(to, hexOf(layer))}: cannot be written: it already exists`,
    remedy: 'Check the scratch space, or choose another place with --scratch DIR',
  });
  assert.equal(await readFile(victim, 'utf8'), 'as it was');
});

function withTrailer(wrong: { readonly crc?: number; readonly lengthBytes?: number }): Buffer {
  const right = { crc: valid.readUInt32LE(valid.length - 8), lengthBytes: valid.readUInt32LE(valid.length - 4) };
  return gzipMember(valid.subarray(10, -8), { ...right, ...wrong });
}

function crcText(gzip: Buffer): string {
  return gzip
    .readUInt32LE(gzip.length - 8)
    .toString(16)
    .padStart(8, '0');
}
