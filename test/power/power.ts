import { parseArgs } from 'node:util';
import { messageOf } from '../../agent/model/errors.ts';
import { keepFigures } from '../support/figures.ts';
import { inOwnMounts } from './alone.ts';
import { factoryPowerScenarios } from './factory-scenarios.ts';
import { nodePowerScenarios, releasePowerScenario } from './node-scenarios.ts';
import { type Moment, momentsOf, type PowerScenario, runUndisturbed, seeded, tryCut } from './trial.ts';

/**
 * Cuts the power at random moments: `npm run test:power -- [--count 100] [--seed N] [--only TEXT] [--json]`. The figures are kept for the boot report; with --json they go to standard
 * output, and what happens to standard error. The same seed gives the same moments.
 */
interface Lost extends Moment {
  readonly scenario: string;
  readonly reason: string;
}

inOwnMounts(import.meta.url);

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '100' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
    only: { type: 'string', default: '' },
    json: { type: 'boolean', default: false },
  },
});
const random = seeded(Number(values.seed));
const scenarios = [...nodePowerScenarios, releasePowerScenario, ...factoryPowerScenarios].filter(({ name }) => name.includes(values.only));
const each = Math.ceil(Number(values.count) / scenarios.length);
const lost: Lost[] = [];
const figures: Awaited<ReturnType<typeof cutAll>>[] = [];
for (const scenario of scenarios) figures.push(await cutAll(scenario));
await keepFigures('power', figures);
const sum = (key: 'tried' | 'recovered' | 'lost' | 'done') => figures.reduce((total, one) => total + one[key], 0);
const report = {
  seed: Number(values.seed),
  tried: sum('tried'),
  recovered: sum('recovered'),
  lost: sum('lost'),
  scenarios: figures,
  failures: lost,
};
process.stdout.write(
  values.json
    ? `${JSON.stringify(report, undefined, 2)}\n`
    : `power cuts: ${report.tried} tried, ${report.recovered} recovered, ${report.lost} lost (seed ${report.seed})\n`,
);
process.exitCode = report.lost === 0 && report.tried > 0 ? 0 : 1;

async function cutAll(scenario: PowerScenario) {
  await using prepared = await scenario.prepare();
  const usual = await runUndisturbed(prepared);
  const counts = { tried: 0, recovered: 0, lost: 0, done: 0 };
  for (const moment of momentsOf(each, random)) {
    counts.tried++;
    try {
      if (await tryCut(prepared, moment, usual)) counts.done++;
      counts.recovered++;
    } catch (error) {
      counts.lost++;
      lost.push({ scenario: scenario.name, ...moment, reason: messageOf(error) });
      process.stderr.write(`LOST ${JSON.stringify(lost.at(-1), undefined, 2)}\n`);
    }
  }
  process.stderr.write(
    `${scenario.name} (${Math.round(usual.durationMs)} ms): ${counts.tried} tried, ${counts.recovered} recovered, ${counts.done} of them on record before the cut\n`,
  );
  return { scenario: scenario.name, ...counts };
}
