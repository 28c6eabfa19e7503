import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { FoundManifest } from '../../../agent/extract/archive-manifests.ts';
import { type ArchiveContents, checkComplete } from '../../../agent/extract/completeness.ts';
import type { Digest } from '../../../agent/model/digest.ts';
import { thrownBy } from '../../support/thrown.ts';

const REMEDY = 'Write the archive again at the factory';
const digestOfDigit = (digit: string): Digest => `sha256:${digit.repeat(64)}`;
const describeBlob = (digit: string, sizeBytes = 5): { digest: Digest; sizeBytes: number; mediaType: string } => ({
  digest: digestOfDigit(digit),
  sizeBytes,
  mediaType: '',
});
const image = (layers: string): FoundManifest => ({
  file: 'manifest.json',
  digest: digestOfDigit('a'),
  sizeBytes: 100,
  manifest: { kind: 'image', config: describeBlob('0'), layers: layers.split('').map((digit) => describeBlob(digit)) },
});
const contents = (layers: string, found: string, more: Partial<ArchiveContents> = {}): ArchiveContents => ({
  hasVersion: true,
  manifests: [image(layers)],
  blobs: new Map(found.split('').map((digit) => [digestOfDigit(digit), 5])),
  ...more,
});

describe('an archive is complete', () => {
  it('with version and all blobs of its image, and more', () => {
    assert.equal(checkComplete(contents('12', '0123'), 'x.tgz'), undefined);
  });

  it('not without what is named, five of which the message names', () => {
    const named = ['0', '1', '2', '3', '4'].map((digit) => `blob ${digestOfDigit(digit)}, which manifest.json names`);
    assert.deepEqual(
      thrownBy(() => checkComplete(contents('123456', ''), 'x.tgz')),
      { code: 'ERR_ARCHIVE_MEMBER', message: `x.tgz: lacks ${named.join('; ')}; and 2 more`, remedy: REMEDY },
    );
  });

  it('not without version', () => {
    assert.deepEqual(
      thrownBy(() => checkComplete(contents('1', '01', { hasVersion: false }), 'x.tgz')),
      { code: 'ERR_ARCHIVE_MEMBER', message: 'x.tgz: lacks version', remedy: REMEDY },
    );
  });

  it('not where a blob has another size than its manifest says', () => {
    const blobs = new Map([
      [digestOfDigit('0'), 5],
      [digestOfDigit('1'), 6],
    ]);
    assert.deepEqual(
      thrownBy(() => checkComplete(contents('1', '', { blobs }), 'x.tgz')),
      { code: 'ERR_ARCHIVE_BLOB_SIZE', message: `x.tgz: ${digestOfDigit('1')} has 6 bytes, but manifest.json says 5`, remedy: REMEDY },
    );
  });

  it('not where a manifest has another size than its list says, but without the manifests of other platforms', () => {
    const child = { ...image('1'), file: `${'a'.repeat(64)}.manifest.json` };
    const listOf = (sizeBytes: number): FoundManifest => ({
      file: 'manifest.json',
      digest: digestOfDigit('b'),
      sizeBytes: 100,
      manifest: {
        kind: 'index',
        instances: ['a', 'c'].map((digit) => ({ ...describeBlob(digit, sizeBytes), os: 'linux', architecture: 'amd64', variant: '' })),
      },
    });
    assert.equal(checkComplete(contents('', '01', { manifests: [listOf(100), child] }), 'x.tgz'), undefined);
    assert.deepEqual(
      thrownBy(() => checkComplete(contents('', '01', { manifests: [listOf(99), child] }), 'x.tgz')),
      { code: 'ERR_ARCHIVE_BLOB_SIZE', message: `x.tgz: ${digestOfDigit('a')} has 100 bytes, but manifest.json says 99`, remedy: REMEDY },
    );
  });
});
