import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '../../agent/model/errors.ts';
import { type CutFigures, cutAll, reportOf } from '../power/cut-all.ts';
import { momentsOf, seeded } from '../power/trial.ts';
import { builtExecutable } from '../support/executable.ts';
import { keepFigures } from '../support/figures.ts';
import { keepLife } from '../support/vm-life.ts';
import { liveWholeLife } from './chain.ts';
import { damageStore } from './damage.ts';
import { vmPowerScenarios } from './power.ts';
import { openVmTrial, type VmTrial } from './trial.ts';

/**
 * Boots machines with a kernel, a udev, a device-mapper and disks of their own: `npm run test:vm`, with `--cuts N` power cuts (0: none),
 * `--seed N` for the same moments again, `--only life` or `--only power` for one half, `--executable FILE` for another executable than the one
 * that is built, and `--json` for the figures of the power cuts on standard output, in the form of test:power.
 */
async function main(signal: AbortSignal): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      cuts: { type: 'string', default: '4' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
      only: { type: 'string' },
      executable: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const executable = values.executable === undefined ? await builtExecutable() : resolve(values.executable);
  await using trial = await openVmTrial(executable, signal);
  const isWell = values.only === 'power' || (await lives(trial));
  const cuts = values.only === 'life' ? 0 : Number(values.cuts);
  const report = reportOf(Number(values.seed), await cutPower(trial, cuts, Number(values.seed)));
  if (cuts > 0) await keepFigures('vm', report.scenarios);
  if (values.json) process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
  else say(`power cuts: ${report.tried} tried, ${report.recovered} recovered, ${report.lost} lost (seed ${report.seed})`);
  return isWell && report.lost === 0 && report.tried >= cuts;
}

/** The whole life of a node, and what becomes of it when its store is damaged. */
async function lives(trial: VmTrial): Promise<boolean> {
  const fault = await liveWholeLife(trial)
    .then(async (disk) => await damageStore(trial, disk))
    .then(
      () => undefined,
      (error: unknown) => `FAIL ${messageOf(error)}`,
    );
  const notes = fault === undefined ? trial.notes : [...trial.notes, fault];
  await keepLife({ isWell: fault === undefined, notes });
  for (const note of notes) say(note);
  return fault === undefined;
}

/** Of the moments each scenario takes a part, so that every second one has another file system, and half of them another kind of cut. */
async function cutPower(trial: VmTrial, cuts: number, seed: number): Promise<readonly CutFigures[]> {
  const scenarios = cuts > 0 ? vmPowerScenarios(trial) : [];
  const each = Math.ceil(cuts / scenarios.length);
  const moments = momentsOf(each * scenarios.length, seeded(seed));
  const results: CutFigures[] = [];
  for (const [index, scenario] of scenarios.entries())
    results.push(await cutAll(scenario, moments.slice(index * each, (index + 1) * each)));
  return results;
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

const interrupted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => interrupted.abort(new Error(`ended by ${name}`)));
try {
  process.exitCode = (await main(interrupted.signal)) ? 0 : 1;
} catch (error) {
  say(`vm: ${messageOf(error)}`);
  process.exitCode = 1;
}
