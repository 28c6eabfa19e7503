import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CompressionChoice, compressionArgs, planCompression } from '../../../../agent/factory/compose/store-compression.ts';
import { compressionText } from '../../../../agent/model/bundle.ts';
import { isOlderRelease, squashfsObstacle } from '../../../../agent/model/release.ts';
import { thrownBy } from '../../../support/thrown.ts';

test('auto takes what the kernel of the release reads, and says why', () => {
  const of = (release: string) => planCompression(release, 'auto', undefined);
  for (const release of ['4.12.30', '4.6.1', '3.11.0', '4.12.0-rc.1', '4.12'])
    assert.deepEqual(of(release), { algorithm: 'gzip', level: 6, reason: `a kernel of ${release} may not read zstd` });
  for (const release of ['4.13.0', '4.22.1', '5.0.0', '10.1'])
    assert.deepEqual(of(release), { algorithm: 'zstd', level: 9, reason: `the kernel of ${release} reads it` });
  for (const release of ['', 'latest', '4', '4.x', '99999.1']) {
    const reason = 'the release is not known; nodes before 4.13 need --store-compression gzip';
    assert.deepEqual(of(release), { algorithm: 'zstd', level: 9, reason });
  }
});

test('what is asked for is taken, with the level that is asked for', () => {
  const cases: readonly (readonly [CompressionChoice, number | undefined, readonly string[], string])[] = [
    ['zstd', undefined, ['-comp', 'zstd', '-Xcompression-level', '9'], 'zstd level 9'],
    ['zstd', 22, ['-comp', 'zstd', '-Xcompression-level', '22'], 'zstd level 22'],
    ['gzip', 9, ['-comp', 'gzip', '-Xcompression-level', '9'], 'gzip level 9'],
    ['xz', undefined, ['-comp', 'xz'], 'xz'],
    ['auto', 3, ['-comp', 'gzip', '-Xcompression-level', '3'], 'gzip level 3'],
  ];
  for (const [choice, level, args, text] of cases) {
    const plan = planCompression('4.12.1', choice, level);
    assert.deepEqual([compressionArgs(plan), compressionText(plan)], [args, text]);
    if (choice !== 'auto') assert.equal(plan.reason, 'asked for');
  }
});

test('a level that the compression does not have is refused, also where the release has chosen the compression', () => {
  const refused = (release: string, choice: CompressionChoice, level: number) => thrownBy(() => planCompression(release, choice, level));
  assert.deepEqual(refused('', 'xz', 1), {
    code: 'ERR_USAGE',
    message: '--store-level is 1, but xz has no levels (the compression: asked for)',
    remedy: 'Leave out --store-level, or give a level that the compression has',
  });
  assert.deepEqual(refused('4.12.3', 'auto', 10), {
    code: 'ERR_USAGE',
    message: '--store-level is 10, but gzip has levels from 1 to 9 (the compression: a kernel of 4.12.3 may not read zstd)',
    remedy: 'Leave out --store-level, or give a level that the compression has',
  });
  assert.equal(refused('', 'zstd', 0).code, 'ERR_USAGE');
  assert.equal(refused('', 'zstd', 23).code, 'ERR_USAGE');
});

test('releases are compared by numbers, not by letters, and what is no release is unlike all', () => {
  assert.deepEqual(
    [isOlderRelease('4.9.0', '4.13'), isOlderRelease('4.13.9', '4.13'), isOlderRelease('5.0', '4.13'), isOlderRelease('3.30', '4.13')],
    [true, false, false, true],
  );
  assert.deepEqual([isOlderRelease('', '4.13'), isOlderRelease('4.13', 'x')], [undefined, undefined]);
});

test('zstd is an obstacle for nodes of before 4.13, and nothing else is', () => {
  assert.equal(squashfsObstacle('4.12.9', 'zstd'), 'packed with zstd, and the kernel of 4.12.9 probably cannot mount that');
  for (const [release, algorithm] of [
    ['4.12.9', 'gzip'],
    ['4.12.9', 'xz'],
    ['4.13.0', 'zstd'],
    ['', 'zstd'],
  ] as const)
    assert.equal(squashfsObstacle(release, algorithm), undefined);
});
