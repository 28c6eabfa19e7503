import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Bundle, formatBundle, isInnerPath, parseBundle } from '../../../agent/model/bundle.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { FUZZ } from '../../support/fuzz.ts';

/** A manifest that is sound, as plain data: what hostile ones start from. */
const SOUND: Bundle = {
  apiVersion: 'prestage-agent/v1',
  kind: 'Bundle',
  release: '4.14.0',
  architecture: 'amd64',
  createdAt: '2026-01-01T00:00:00Z',
  createdBy: { name: 'prestage-agent', version: '0.1.0' },
  stages: {
    discovery: {
      images: [
        {
          reference: 'quay.io/a/b:1',
          names: ['quay.io/a/b:1'],
          manifestDigest: `sha256:${'a'.repeat(64)}`,
          compressedBytes: 1,
          unpackedBytes: 2,
        },
      ],
    },
  },
  payloads: [{ kind: 'oci', path: 'oci' }],
  files: [{ path: 'oci/index.json', sizeBytes: 1, sha256: 'b'.repeat(64) }],
};

/** Values that do not belong where they are put. */
const strange = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    -1,
    1.5,
    2 ** 53,
    '',
    '../../etc/shadow',
    '/etc/shadow',
    'a//b',
    'a/./b',
    'a\0b',
    '__proto__',
    [],
    {},
    [[]],
    true,
  ),
  fc.string({ maxLength: 20, unit: 'binary' }),
  fc.jsonValue({ maxDepth: 3 }),
);

/** Every place of a document, as the keys that lead there. */
function placesOf(value: unknown, at: readonly (string | number)[] = []): readonly (readonly (string | number)[])[] {
  if (typeof value !== 'object' || value === null) return [at];
  return [at, ...Object.entries(value).flatMap(([key, inner]) => placesOf(inner, [...at, key]))];
}

/** The document with another value in one place. */
function changed(value: unknown, place: readonly (string | number)[], put: unknown): unknown {
  const [key, ...rest] = place;
  if (key === undefined) return put;
  if (Array.isArray(value)) return value.map((inner, index) => (String(index) === String(key) ? changed(inner, rest, put) : inner));
  return Object.fromEntries(Object.entries(Object(value)).map(([name, inner]) => [name, name === key ? changed(inner, rest, put) : inner]));
}

/** Reads a text; what is taken must be safe to use, what is refused must say so as ERR_BUNDLE. */
function judge(text: string): void {
  let bundle: Bundle;
  try {
    bundle = parseBundle(text, 'prestage.json');
  } catch (error) {
    const { code, message } = errorRecord(error);
    assert.equal(code, 'ERR_BUNDLE', message);
    assert.ok(message.length < 200_000);
    return;
  }
  const paths = bundle.files.map((file) => file.path);
  assert.ok(paths.every(isInnerPath));
  assert.deepEqual(
    paths,
    [...new Set(paths)].toSorted((a, b) => (a < b ? -1 : 1)),
  );
  assert.ok(
    bundle.files.every((file) => Number.isSafeInteger(file.sizeBytes) && file.sizeBytes >= 0 && /^[0-9a-f]{64}$/.test(file.sha256)),
  );
  assert.deepEqual(parseBundle(formatBundle(bundle), 'again'), bundle);
}

test('law: a manifest with anything in any place is read safely or refused as one', () => {
  const places = placesOf(JSON.parse(JSON.stringify(SOUND)));
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom(...places), strange), { minLength: 1, maxLength: 3 }), (changes) => {
      let value: unknown = JSON.parse(JSON.stringify(SOUND));
      for (const [place, put] of changes) value = changed(value, place, put);
      judge(JSON.stringify(value) ?? '');
    }),
    {
      ...FUZZ,
      examples: [[[[['files', '0', 'path'], '../x']]], [[[['payloads', '0', 'path'], 'oci/../..']]], [[[['stages'], { discovery: null }]]]],
    },
  );
});

test('law: text with bytes lost, doubled or exchanged is read safely or refused as a manifest', () => {
  const text = formatBundle(SOUND);
  const edits = fc.array(fc.tuple(fc.nat(text.length), fc.nat(8), fc.string({ maxLength: 6, unit: 'binary' })), {
    minLength: 1,
    maxLength: 4,
  });
  fc.assert(
    fc.property(edits, (all) => {
      judge(all.reduce((current, [at, length, put]) => current.slice(0, at) + put + current.slice(at + length), text));
    }),
    FUZZ,
  );
});

test('depth and repetition cost no more than their length', () => {
  for (const text of ['['.repeat(1_000_000), '{"a":'.repeat(200_000), `{"files":[${'{},'.repeat(100_000)}{}]}`, '"'.repeat(1_000_000)]) {
    // Time of the processor, which a busy machine does not make longer.
    const before = process.cpuUsage();
    judge(text);
    const { user } = process.cpuUsage(before);
    assert.ok(user < 10_000_000, `${text.slice(0, 10)}: ${user} us`);
  }
});
