import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { checkSize, EMBED_LIMIT_BYTES, embedArchive } from '../../../agent/units/size.ts';
import { ourIgnition } from '../../support/ignition.ts';
import { thrownBy } from '../../support/thrown.ts';

test('the archive is newc with the member config.ign', () => {
  const cpio = gunzipSync(embedArchive('{}\n'));
  assert.equal(
    cpio.toString('latin1'),
    [
      '070701',
      '00000001',
      '000081A4',
      '00000000',
      '00000000',
      '00000001',
      '00000000',
      '00000003',
      '00000000',
      '00000000',
      '00000000',
      '00000000',
      '0000000B',
      '00000000',
      'config.ign\0',
      '\0\0\0',
      '{}\n',
      '\0',
      '070701',
      '00000000',
      '00000000',
      '00000000',
      '00000000',
      '00000001',
      '00000000',
      '00000000',
      '00000000',
      '00000000',
      '00000000',
      '00000000',
      '0000000B',
      '00000000',
      'TRAILER!!!\0',
      '\0\0\0',
    ].join(''),
  );
});

test('our own override takes less than 2 % of the room', () => {
  const sizeBytes = embedArchive(JSON.stringify(ourIgnition('discovery'))).length;
  assert.ok(sizeBytes < EMBED_LIMIT_BYTES * 0.02, `${sizeBytes} bytes`);
});

test('an archive that compresses badly is refused above the limit', () => {
  const sizeBytes = embedArchive(randomBytes(EMBED_LIMIT_BYTES).toString('base64')).length;
  assert.deepEqual(
    thrownBy(() => checkSize('the override', sizeBytes, EMBED_LIMIT_BYTES)),
    {
      code: 'ERR_IGNITION_SIZE',
      message: `the override has ${sizeBytes} bytes, but at most 262144 fit`,
      remedy: 'Move large files from the override to the data partition or a server, then render it again',
    },
  );
});

test('exactly the limit passes with a warning, and one byte more is refused', () => {
  assert.equal(checkSize('it', 1000, 1000), 'it has 1000 bytes, 100 % of the limit of 1000, which also includes what the installer adds');
  assert.equal(thrownBy(() => checkSize('it', 1001, 1000)).code, 'ERR_IGNITION_SIZE');
});

test('a warning comes from 80 % on', () => {
  assert.equal(checkSize('it', 799, 1000), undefined);
  assert.equal(checkSize('it', 800, 1000), 'it has 800 bytes, 80 % of the limit of 1000, which also includes what the installer adds');
});
