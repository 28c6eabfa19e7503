import { parseArgs } from 'node:util';
import { messageOf } from '../../agent/model/errors.ts';
import { seeded } from '../power/trial.ts';
import { type Figures, keepFigures } from '../support/figures.ts';
import { inOwnMounts } from '../support/own-mounts.ts';
import { growthOf, soakBoots } from './boots.ts';
import { deliveries, makeSoakNode } from './node.ts';
import { wipeAgainAndAgain } from './wipes.ts';

/**
 * Boots a node again and again: `npm run test:soak -- [--boots 100] [--wipes 20] [--seed N] [--json]`. The figures are kept for the boot report; with --json they go to standard output.
 */
inOwnMounts(import.meta.url, { ownPids: true });

const { values } = parseArgs({
  options: {
    boots: { type: 'string', default: '100' },
    wipes: { type: 'string', default: '20' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
    json: { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed);
const failures: string[] = [];
const wipes: Figures[] = [];
/** What ended at its first fault: how far it had come is not known. */
const ended: Figures[] = [];
for (const delivery of [deliveries.extract, deliveries.partition, deliveries.disk]) {
  await using soak = await makeSoakNode();
  await wipeAgainAndAgain(soak, delivery, Number(values.wipes)).then(
    (figures) => wipes.push(figures),
    (error: unknown) => {
      const scenario = `unclean stop, ${delivery.name}`;
      failures.push(`${scenario}: ${messageOf(error)}`);
      ended.push({ scenario, tried: 1, recovered: 0, lost: 1 });
    },
  );
}
const before = failures.length;
const soaked = await soakAll();
const lost = failures.length > before ? 1 : 0;
const boots = soaked?.boots ?? 1;
await keepFigures('soak', [
  ...wipes,
  ...ended,
  { scenario: 'boots with any delivery and any stop', tried: boots, recovered: boots - lost, lost },
]);
const tried = wipes.reduce((total, one) => total + one.tried, 0) + (soaked?.boots ?? 0);
const report = { seed, tried, recovered: tried - failures.length, lost: failures.length, wipes, soak: soaked, failures };
process.stdout.write(
  values.json
    ? `${JSON.stringify(report, undefined, 2)}\n`
    : `soak: ${soaked?.boots ?? 0} boots, ${soaked?.uncleanStops ?? 0} of them stopped uncleanly; ${failures.length} failures (seed ${seed})\n`,
);
for (const failure of failures) process.stderr.write(`${failure}\n`);
process.exitCode = failures.length === 0 ? 0 : 1;

async function soakAll() {
  await using soak = await makeSoakNode();
  try {
    const figures = await soakBoots(soak, { boots: Number(values.boots), period: 10, random: seeded(seed) });
    failures.push(...growthOf(figures.footprints));
    return figures;
  } catch (error) {
    failures.push(messageOf(error));
    return undefined;
  }
}
