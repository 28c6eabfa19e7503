import { parseArgs } from 'node:util';
import { messageOf } from '../../agent/model/errors.ts';
import { keepFigures } from '../support/figures.ts';
import { faultText } from './calls.ts';
import { type FaultFixture, type FaultScenario, faultScenarios, faultsOf, makeFaultFixture, tryFault } from './trial.ts';

/**
 * Has every call of a small run fail once: `npm run test:faults -- [--only TEXT] [--every N] [--json]`. With --every only each Nth fault is tried. The figures are kept
 * for the boot report; with --json they go to standard output, and what happens to standard error.
 */
const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    kind: { type: 'string', default: '' },
    every: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
});
const lost: { readonly scenario: string; readonly fault: string; readonly reason: string }[] = [];
await using fixture = await makeFaultFixture();
const figures: Awaited<ReturnType<typeof failAll>>[] = [];
for (const scenario of faultScenarios.filter(({ name }) => name.includes(values.only))) figures.push(await failAll(scenario, fixture));
await keepFigures('faults', figures);
const sum = (key: 'tried' | 'recovered' | 'lost') => figures.reduce((total, one) => total + one[key], 0);
const report = { tried: sum('tried'), recovered: sum('recovered'), lost: sum('lost'), scenarios: figures, failures: lost };
process.stdout.write(
  values.json
    ? `${JSON.stringify(report, undefined, 2)}\n`
    : `failing calls: ${report.tried} tried, ${report.recovered} recovered, ${report.lost} lost\n`,
);
process.exitCode = report.lost === 0 && report.tried > 0 ? 0 : 1;

async function failAll(scenario: FaultScenario, made: FaultFixture) {
  const all = (await faultsOf(made, scenario)).filter((fault) => faultText(fault).includes(values.kind));
  const faults = all.filter((_, index) => index % Number(values.every) === 0);
  /** `unreached` faults were not met: threads do not do their work in the same order each time. */
  const counts = { tried: 0, recovered: 0, lost: 0, unreached: 0 };
  for (const fault of faults) {
    try {
      if ((await tryFault(made, scenario, fault)) === undefined) {
        counts.unreached++;
        continue;
      }
      counts.recovered++;
    } catch (error) {
      counts.lost++;
      lost.push({ scenario: scenario.name, fault: faultText(fault), reason: messageOf(error) });
      process.stderr.write(`LOST ${scenario.name}: ${faultText(fault)}: ${messageOf(error)}\n`);
    }
    counts.tried++;
  }
  process.stderr.write(`${scenario.name}: ${counts.tried} of ${all.length} tried, ${counts.recovered} recovered\n`);
  return { scenario: scenario.name, of: all.length, ...counts };
}
