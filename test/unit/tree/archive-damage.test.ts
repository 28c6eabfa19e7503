import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PrestageError } from '../../../agent/model/errors.ts';
import { absentArchives, afterDamage, archiveDamage, damageError } from '../../../agent/tree/archive-damage.ts';

const empty = (path: string) => archiveDamage(path, new PrestageError('ERR_ARCHIVE_TRUNCATED', `${path}: the file is empty`, 'x'));

test('archives that are not damaged are no error', () => {
  assert.equal(damageError([]), undefined);
  assert.deepEqual(absentArchives([{ directory: '/d', archives: [], gaps: [] }]), []);
});

test('an archive that is not there is damage, as what it would have brought is not known', () => {
  assert.deepEqual(absentArchives([{ directory: '/d', archives: [], gaps: [1] }]), [
    {
      path: '/d/mirror_000001.tar',
      code: 'ERR_ARCHIVE_MISSING',
      message: '/d/mirror_000001.tar is missing, although an archive of the same oc-mirror run with a higher number exists',
      remedy: 'Copy the archive again, unchanged, from the place where oc-mirror wrote it',
    },
  ]);
});

test('the first fault of each archive is the error of the run, with what to copy again', () => {
  const other = archiveDamage('/a', new PrestageError('ERR_ARCHIVE_DIGEST', '/a: blob', 'x'));
  assert.deepEqual(damageError([empty('/a'), other]), {
    code: 'ERR_ARCHIVE_TRUNCATED',
    message: '/a: the file is empty',
    remedy: 'Copy /a again from the place where oc-mirror wrote it; then start the run again',
  });
  assert.deepEqual(damageError(['/1', '/2', '/3', '/4', '/5', '/6', '/7'].map(empty)), {
    code: 'ERR_ARCHIVE_TRUNCATED',
    message: `${['/1', '/2', '/3', '/4', '/5'].map((path) => `${path}: the file is empty`).join('; ')}; and 2 more archives`,
    remedy: 'Copy /1, /2, /3, /4, /5 and the others again from the place where oc-mirror wrote them; then start the run again',
  });
});

test('what follows from damage is told behind it', () => {
  const { code, message, remedy } = afterDamage(empty('/a'), new PrestageError('ERR_REGISTRY_IMAGE', 'nothing serves', 'Set it'));
  assert.deepEqual(
    [code, message, remedy],
    ['ERR_ARCHIVE_TRUNCATED', '/a: the file is empty; therefore: nothing serves', empty('/a').remedy],
  );
});
