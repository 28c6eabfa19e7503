import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BLOB_LIMIT_BYTES, createEntryPolicy, type EntryHeader, MEMBER_LIMIT, type Member } from '../../../agent/extract/entry-policy.ts';
import { thrownBy } from '../../support/thrown.ts';

const PATH = '/data/image_latest.tgz';
const NAME = 'image_latest';
const HEX = 'a'.repeat(64);
const REMEDY = 'Write the archive again at the factory';

const file = (name: string, more: Partial<EntryHeader> = {}): EntryHeader => ({
  name,
  type: 'file',
  sizeBytes: 10,
  paxKeywords: [],
  ...more,
});
const judgeOne = (header: EntryHeader): Member => createEntryPolicy({ path: PATH, name: NAME })(header);

describe('the entry policy', () => {
  const admitted: readonly [string, EntryHeader, Member][] = [
    ['the top directory', file(`${NAME}/`, { type: 'directory', sizeBytes: 0 }), { kind: 'directory', file: '', sizeBytes: 0 }],
    ['the top directory without a slash', file(NAME, { type: 'directory', sizeBytes: 0 }), { kind: 'directory', file: '', sizeBytes: 0 }],
    [
      'the top directory as tar writes it for ./NAME',
      file(`./${NAME}/`, { type: 'directory', sizeBytes: 0 }),
      { kind: 'directory', file: '', sizeBytes: 0 },
    ],
    ['version', file(`${NAME}/version`), { kind: 'version', file: 'version', sizeBytes: 10 }],
    ['manifest.json', file(`${NAME}/manifest.json`), { kind: 'manifest', file: 'manifest.json', sizeBytes: 10, digest: undefined }],
    [
      "an instance's manifest",
      file(`${NAME}/${HEX}.manifest.json`),
      { kind: 'manifest', file: `${HEX}.manifest.json`, sizeBytes: 10, digest: `sha256:${HEX}` },
    ],
    ['a blob', file(`${NAME}/${HEX}`), { kind: 'blob', file: HEX, sizeBytes: 10, digest: `sha256:${HEX}` }],
    ['a blob as tar writes it for ./NAME', file(`./${NAME}/${HEX}`), { kind: 'blob', file: HEX, sizeBytes: 10, digest: `sha256:${HEX}` }],
    [
      'a blob of the largest size',
      file(`${NAME}/${HEX}`, { sizeBytes: BLOB_LIMIT_BYTES }),
      { kind: 'blob', file: HEX, sizeBytes: BLOB_LIMIT_BYTES, digest: `sha256:${HEX}` },
    ],
    ['an empty blob', file(`${NAME}/${HEX}`, { sizeBytes: 0 }), { kind: 'blob', file: HEX, sizeBytes: 0, digest: `sha256:${HEX}` }],
    ['a signature', file(`${NAME}/signature-1`), { kind: 'signature', file: 'signature-1', sizeBytes: 10 }],
    ["an instance's signature", file(`${NAME}/${HEX}.signature-12`), { kind: 'signature', file: `${HEX}.signature-12`, sizeBytes: 10 }],
    [
      'a file whose pax header has a time',
      file(`${NAME}/version`, { paxKeywords: ['mtime'] }),
      { kind: 'version', file: 'version', sizeBytes: 10 },
    ],
  ];
  for (const [title, header, member] of admitted) {
    it(`admits ${title}`, () => {
      assert.deepEqual(judgeOne(header), member);
    });
  }

  const refused: readonly [string, EntryHeader, string, string][] = [
    ['an absolute path', file(`/${NAME}/version`), 'ERR_ARCHIVE_ABSOLUTE', `member "/${NAME}/version" has an absolute path`],
    [
      'a path that climbs',
      file(`${NAME}/../../etc/passwd`),
      'ERR_ARCHIVE_ESCAPE',
      `member "${NAME}/../../etc/passwd" leads out of the archive with ".."`,
    ],
    [
      'a path that climbs and comes back',
      file(`${NAME}/../${NAME}/version`),
      'ERR_ARCHIVE_ESCAPE',
      `member "${NAME}/../${NAME}/version" leads out of the archive with ".."`,
    ],
    ['".." alone', file('..', { type: 'directory' }), 'ERR_ARCHIVE_ESCAPE', 'member ".." leads out of the archive with ".."'],
    ['another top directory', file('other/version'), 'ERR_ARCHIVE_TOP', `member "other/version" is outside the directory "${NAME}"`],
    ['no top directory', file('version'), 'ERR_ARCHIVE_TOP', `member "version" is outside the directory "${NAME}"`],
    ['no top directory, but "./"', file('./version'), 'ERR_ARCHIVE_TOP', `member "./version" is outside the directory "${NAME}"`],
    ['"./" alone', file('./', { type: 'directory' }), 'ERR_ARCHIVE_TOP', `member "./" is outside the directory "${NAME}"`],
    ['an empty name', file(''), 'ERR_ARCHIVE_TOP', `member "" is outside the directory "${NAME}"`],
    ['a second "./"', file(`././${NAME}/version`), 'ERR_ARCHIVE_TOP', `member "././${NAME}/version" is outside the directory "${NAME}"`],
    ['a deeper path', file(`${NAME}/a/version`), 'ERR_ARCHIVE_NESTED', `member "${NAME}/a/version" is nested more than one directory deep`],
    ['a doubled slash', file(`${NAME}//version`), 'ERR_ARCHIVE_NESTED', `member "${NAME}//version" is nested more than one directory deep`],
    [
      'a directory within',
      file(`${NAME}/blobs`, { type: 'directory' }),
      'ERR_ARCHIVE_NESTED',
      `member "${NAME}/blobs" is a directory within the directory`,
    ],
    ['a file in place of the directory', file(NAME), 'ERR_ARCHIVE_LAYOUT', `member "${NAME}" is a file, not a directory`],
    ['a symbolic link', file(`${NAME}/${HEX}`, { type: 'symlink' }), 'ERR_ARCHIVE_SYMLINK', `member "${NAME}/${HEX}" is a symbolic link`],
    [
      'a symbolic link in place of the directory',
      file(NAME, { type: 'symlink' }),
      'ERR_ARCHIVE_SYMLINK',
      `member "${NAME}" is a symbolic link`,
    ],
    ['a hard link', file(`${NAME}/${HEX}`, { type: 'link' }), 'ERR_ARCHIVE_HARDLINK', `member "${NAME}/${HEX}" is a hard link`],
    [
      'a character device',
      file(`${NAME}/${HEX}`, { type: 'character-device' }),
      'ERR_ARCHIVE_DEVICE',
      `member "${NAME}/${HEX}" is a character device`,
    ],
    ['a block device', file(`${NAME}/${HEX}`, { type: 'block-device' }), 'ERR_ARCHIVE_DEVICE', `member "${NAME}/${HEX}" is a block device`],
    ['a fifo', file(`${NAME}/${HEX}`, { type: 'fifo' }), 'ERR_ARCHIVE_FIFO', `member "${NAME}/${HEX}" is a fifo`],
    [
      'a type that tar-stream does not know',
      file(`${NAME}/${HEX}`, { type: null }),
      'ERR_ARCHIVE_TYPE',
      `member "${NAME}/${HEX}" is neither a file nor a directory, but of an unknown type`,
    ],
    [
      'a contiguous file',
      file(`${NAME}/${HEX}`, { type: 'contiguous-file' }),
      'ERR_ARCHIVE_TYPE',
      `member "${NAME}/${HEX}" is neither a file nor a directory, but contiguous-file`,
    ],
    [
      'a sparse file of the pax format',
      file(`${NAME}/${HEX}`, { paxKeywords: ['mtime', 'GNU.sparse.major'] }),
      'ERR_ARCHIVE_TYPE',
      `member "${NAME}/${HEX}" is a sparse file`,
    ],
    [
      'a name that is not of the layout',
      file(`${NAME}/README`),
      'ERR_ARCHIVE_LAYOUT',
      `member "${NAME}/README" does not belong to the dir: layout`,
    ],
    [
      'upper-case hex',
      file(`${NAME}/${'A'.repeat(64)}`),
      'ERR_ARCHIVE_LAYOUT',
      `member "${NAME}/${'A'.repeat(64)}" does not belong to the dir: layout`,
    ],
    ['hex that is too short', file(`${NAME}/abc`), 'ERR_ARCHIVE_LAYOUT', `member "${NAME}/abc" does not belong to the dir: layout`],
    ['signature-0', file(`${NAME}/signature-0`), 'ERR_ARCHIVE_LAYOUT', `member "${NAME}/signature-0" does not belong to the dir: layout`],
    [
      'a NUL in the name',
      file(`${NAME}/version\0`),
      'ERR_ARCHIVE_NAME',
      `member "${NAME}/version\\u0000" has control characters or invalid UTF-8 in its name`,
    ],
    [
      'an escape sequence in the name',
      file(`${NAME}/\u001b[2J`),
      'ERR_ARCHIVE_NAME',
      `member "${NAME}/\\u001b[2J" has control characters or invalid UTF-8 in its name`,
    ],
    [
      'a C1 control character',
      file(`${NAME}/\u009b2J`),
      'ERR_ARCHIVE_NAME',
      `member "${NAME}/\\u009b2J" has control characters or invalid UTF-8 in its name`,
    ],
    [
      'bytes that are not UTF-8',
      file(`${NAME}/\ufffd`),
      'ERR_ARCHIVE_NAME',
      `member "${NAME}/\\ufffd" has control characters or invalid UTF-8 in its name`,
    ],
    [
      'a negative size',
      file(`${NAME}/${HEX}`, { sizeBytes: -1 }),
      'ERR_ARCHIVE_SIZE',
      `member "${NAME}/${HEX}" has the impossible size -1`,
    ],
    [
      'a size beyond exact numbers',
      file(`${NAME}/${HEX}`, { sizeBytes: 2 ** 60 }),
      'ERR_ARCHIVE_SIZE',
      `member "${NAME}/${HEX}" has the impossible size ${2 ** 60}`,
    ],
    [
      'no size',
      file(`${NAME}/${HEX}`, { sizeBytes: Number.NaN }),
      'ERR_ARCHIVE_SIZE',
      `member "${NAME}/${HEX}" has the impossible size NaN`,
    ],
    [
      'a blob beyond the limit',
      file(`${NAME}/${HEX}`, { sizeBytes: BLOB_LIMIT_BYTES + 1 }),
      'ERR_ARCHIVE_OVERSIZE',
      `member "${NAME}/${HEX}" has 68719476737 bytes, more than the limit of 68719476736`,
    ],
    [
      'a manifest beyond the limit',
      file(`${NAME}/manifest.json`, { sizeBytes: 4194305 }),
      'ERR_ARCHIVE_OVERSIZE',
      `member "${NAME}/manifest.json" has 4194305 bytes, more than the limit of 4194304`,
    ],
    [
      'a signature beyond the limit',
      file(`${NAME}/signature-1`, { sizeBytes: 4194305 }),
      'ERR_ARCHIVE_OVERSIZE',
      `member "${NAME}/signature-1" has 4194305 bytes, more than the limit of 4194304`,
    ],
    [
      'a version beyond the limit',
      file(`${NAME}/version`, { sizeBytes: 1025 }),
      'ERR_ARCHIVE_OVERSIZE',
      `member "${NAME}/version" has 1025 bytes, more than the limit of 1024`,
    ],
    [
      'a directory with content',
      file(`${NAME}/`, { type: 'directory', sizeBytes: 1 }),
      'ERR_ARCHIVE_OVERSIZE',
      `member "${NAME}/" has 1 bytes, more than the limit of 0`,
    ],
  ];
  for (const [title, header, code, what] of refused) {
    it(`refuses ${title}`, () => {
      assert.deepEqual(
        thrownBy(() => judgeOne(header)),
        { code, message: `${PATH}: ${what}`, remedy: REMEDY },
      );
    });
  }

  it('refuses a member that is there twice, also under its other spelling', () => {
    const judge = createEntryPolicy({ path: PATH, name: NAME });
    judge(file(`${NAME}/version`));
    assert.deepEqual(
      thrownBy(() => judge(file(`./${NAME}/version`))),
      {
        code: 'ERR_ARCHIVE_DUPLICATE',
        message: `${PATH}: member "./${NAME}/version" appears twice`,
        remedy: REMEDY,
      },
    );
  });

  it('quotes only the start of a very long name', () => {
    assert.equal(
      thrownBy(() => judgeOne(file('x'.repeat(5000)))).message,
      `${PATH}: member "${'x'.repeat(159)}…" is outside the directory "${NAME}"`,
    );
  });

  it('refuses a member more than the limit', () => {
    const judge = createEntryPolicy({ path: PATH, name: NAME });
    for (let index = 0; index < MEMBER_LIMIT; index++) judge(file(`${NAME}/${index.toString(16).padStart(64, '0')}`));
    assert.deepEqual(
      thrownBy(() => judge(file(`${NAME}/${HEX}`))),
      {
        code: 'ERR_ARCHIVE_COUNT',
        message: `${PATH}: has more than 4096 members`,
        remedy: REMEDY,
      },
    );
  });

  it('refuses manifests that are too large together', () => {
    const judge = createEntryPolicy({ path: PATH, name: NAME });
    for (const digit of '1234') judge(file(`${NAME}/${digit.repeat(64)}.manifest.json`, { sizeBytes: 4194304 }));
    assert.deepEqual(
      thrownBy(() => judge(file(`${NAME}/manifest.json`, { sizeBytes: 1 }))),
      {
        code: 'ERR_ARCHIVE_OVERSIZE',
        message: `${PATH}: member "${NAME}/manifest.json" brings the manifests to 16777217 bytes, more than the limit of 16777216`,
        remedy: REMEDY,
      },
    );
  });

  it('admits, of any text, only file names without a slash or a dot component', () => {
    const names = fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: fc.constantFrom('.', '/', 'a', NAME, HEX, 'version', '\0') }));
    fc.assert(
      fc.property(names, fc.constantFrom('file', 'directory', 'symlink', null), (name, type) => {
        let member: Member;
        try {
          member = judgeOne(file(name, { type, sizeBytes: 0 }));
        } catch {
          return;
        }
        assert.match(member.file, /^(?:|version|manifest\.json|[0-9a-f]{64}(?:\.manifest\.json)?|(?:[0-9a-f]{64}\.)?signature-[1-9]\d*)$/);
      }),
      { numRuns: 2000 },
    );
  });
});
