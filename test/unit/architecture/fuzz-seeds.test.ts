import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { targets } from '../../fuzz/targets.ts';

const seeds: readonly number[] = JSON.parse(readFileSync(join(import.meta.dirname, '../../fuzz/seeds.json'), 'utf8'));

for (const target of targets) {
  test(`odd input of "${target.name}" neither crashes nor hangs it nor leads out: the seeds that are kept`, () => {
    for (const seed of seeds) target.search({ seed, runs: 1000 });
  });
}
