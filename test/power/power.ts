import { parseArgs } from 'node:util';
import { keepFigures } from '../support/figures.ts';
import { inOwnMounts } from '../support/own-mounts.ts';
import { type CutFigures, cutAll, reportOf } from './cut-all.ts';
import { factoryPowerScenarios } from './factory-scenarios.ts';
import { nodePowerScenarios, releasePowerScenario } from './node-scenarios.ts';
import { momentsOf, seeded } from './trial.ts';

/**
 * Cuts the power at random moments: `npm run test:power -- [--count 100] [--seed N] [--only TEXT] [--json]`. The figures are kept for the boot report; with --json they go to standard
 * output, and what happens to standard error. The same seed gives the same moments.
 */
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
const results: CutFigures[] = [];
for (const scenario of scenarios) results.push(await cutAll(scenario, momentsOf(each, random)));
const report = reportOf(Number(values.seed), results);
await keepFigures('power', report.scenarios);
process.stdout.write(
  values.json
    ? `${JSON.stringify(report, undefined, 2)}\n`
    : `power cuts: ${report.tried} tried, ${report.recovered} recovered, ${report.lost} lost (seed ${report.seed})\n`,
);
process.exitCode = report.lost === 0 && report.tried > 0 ? 0 : 1;
