import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { targets } from './targets.ts';

/**
 * Reads damaged inputs for some minutes: `npm run fuzz -- --minutes 10`. A seed that finds a fault is kept in seeds.json, which the unit tests
 * read again each time.
 */
const SEEDS = join(import.meta.dirname, 'seeds.json');
const RUNS = 2000;

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '1' } } });
const end = performance.now() + Number(values.minutes) * 60_000;
let rounds = 0;
let faults = 0;
for (let seed = Date.now() % 2_147_483_647; performance.now() < end; seed += 1) {
  for (const target of targets) {
    try {
      target.search({ seed, runs: RUNS });
    } catch (error) {
      faults += 1;
      process.stdout.write(`${target.name}, seed ${seed}: ${error instanceof Error ? error.message : String(error)}\n`);
      const kept: readonly number[] = JSON.parse(readFileSync(SEEDS, 'utf8'));
      writeFileSync(SEEDS, `${JSON.stringify([...new Set([...kept, seed])])}\n`);
    }
  }
  rounds += 1;
}
process.stdout.write(`${targets.length} readers, ${rounds * RUNS * targets.length} inputs, ${faults} faults\n`);
process.exitCode = faults === 0 ? 0 : 1;
