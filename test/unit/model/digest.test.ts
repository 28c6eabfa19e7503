import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { digestOf, digestOfHex, hexOf, isDigest, shortDigests } from '../../../agent/model/digest.ts';
import { digests } from '../../support/arbitraries.ts';

const HEX = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

test('the digest of no bytes is the one that everybody knows', () => {
  assert.equal(digestOf(''), `sha256:${HEX}`);
  assert.equal(digestOf(new Uint8Array()), `sha256:${HEX}`);
});

test('only sha256 with 64 lower-case hex digits is a digest', () => {
  const table: readonly (readonly [string, boolean])[] = [
    [`sha256:${HEX}`, true],
    [`sha256:${HEX.toUpperCase()}`, false],
    [`sha256:${HEX}0`, false],
    [`sha256:${HEX.slice(1)}`, false],
    [`sha256:${HEX}\n`, false],
    [` sha256:${HEX}`, false],
    [`sha512:${HEX}${HEX}`, false],
    [HEX, false],
    ['', false],
  ];
  assert.deepEqual(
    table.map(([text]) => [text, isDigest(text)]),
    table,
  );
});

test('a blob file of the dir: layout and its digest name each other', () => {
  fc.assert(fc.property(digests, (digest) => assert.equal(digestOfHex(hexOf(digest)), digest)));
});

test('a file name that is no hash of a blob has no digest', () => {
  assert.deepEqual(['version', 'manifest.json', `${HEX}.manifest.json`, HEX.toUpperCase(), `../${HEX}`].map(digestOfHex), [
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test('a console shows 12 digits of each digest, as podman does', () => {
  assert.equal(shortDigests(`quay.io/a@sha256:${HEX} and sha256:${HEX}`), 'quay.io/a@sha256:e3b0c44298fc… and sha256:e3b0c44298fc…');
  assert.equal(shortDigests(`sha256:${HEX}0`), `sha256:${HEX}0`);
});
