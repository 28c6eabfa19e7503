import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fuzz, parsers } from '../fuzz/parsers.ts';

const seeds: readonly number[] = JSON.parse(readFileSync(join(import.meta.dirname, '../fuzz/seeds.json'), 'utf8'));

for (const parser of parsers) {
  test(`damaged input of the parser "${parser.name}" neither crashes nor hangs it nor leads out: the seeds that are kept`, () => {
    for (const seed of seeds) fuzz(parser, { seed, runs: 1000 });
  });
}
