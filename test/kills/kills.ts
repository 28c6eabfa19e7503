import { parseArgs } from 'node:util';
import { crashScenarios } from '../support/crash/all.ts';
import { killAtRandom } from '../support/crash/random.ts';
import { keepFigures } from '../support/figures.ts';

/** `npm run test:kills -- --count 200 [--seed N] [--scenario WORDS]`: kills random commands at random moments. The figures are kept for the boot report. */
const { values } = parseArgs({
  options: { count: { type: 'string', default: '200' }, seed: { type: 'string' }, scenario: { type: 'string', default: '' } },
});
const seed = Number(values.seed ?? Date.now() % 2 ** 32);
const count = Number(values.count);
const named = crashScenarios.filter(({ name }) => name.includes(values.scenario));
const reasons = await Promise.all(named.map(async (scenario) => await scenario.unavailable?.()));
for (const reason of new Set(reasons)) if (reason !== undefined) console.log(`without some scenarios: ${reason}`);
const scenarios = named.filter((_, index) => reasons[index] === undefined);

let struck = 0;
console.log(`${count} kills over ${scenarios.length} scenarios, seed ${seed}`);
const figures = await killAtRandom({
  scenarios,
  count,
  seed,
  onKill: ({ scenario, afterMs, lost }) => {
    console.log(`${++struck}/${count} ${scenario}, after ${afterMs} ms: ${lost === undefined ? 'recovered' : 'LOST'}`);
    if (lost !== undefined) console.log(lost);
  },
});
await keepFigures('kills', figures);
const sum = (pick: (one: (typeof figures)[number]) => number): number => figures.reduce((total, one) => total + pick(one), 0);
const lost = sum((one) => one.lost);
console.log(JSON.stringify({ tried: sum((one) => one.tried), recovered: sum((one) => one.recovered), lost }));
process.exitCode = lost === 0 ? 0 : 1;
