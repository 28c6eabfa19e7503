import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import pLimit from 'p-limit';
import { formatBytes } from '../../agent/model/bytes.ts';
import { TOP } from '../support/cache.ts';
import { builtExecutable } from '../support/executable.ts';
import { smallImageSet } from '../support/image-set.ts';
import { openEnvironment } from './environment.ts';
import { openFactory } from './factory.ts';
import { writeReport } from './report-write.ts';
import { nodeRoot } from './root.ts';
import { SCENARIOS } from './scenarios/table.ts';
import { type Outcome, runScenario } from './trial.ts';

const REPORT = join(TOP, 'docs/boot-report.md');

/**
 * Boots machines with our ignition and watches what becomes of them: `npm run test:boot`, with
 * `--only TEXT` for the scenarios whose name holds it, `--executable FILE` for another executable than the one that is built, `--jobs N` for N scenarios at a time (2: they wait
 * more than they compute), `--slow N` for limits of time N times as long on a busy machine, `--json` for the outcomes as data,
 * and `--report [FILE]` for docs/boot-report.md, or FILE, with its pictures beside it.
 */
async function main(signal: AbortSignal): Promise<boolean> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      only: { type: 'string', multiple: true },
      executable: { type: 'string' },
      jobs: { type: 'string', default: '2' },
      slow: { type: 'string', default: '1' },
      list: { type: 'boolean' },
      json: { type: 'boolean' },
      report: { type: 'boolean' },
    },
  });
  const [report = REPORT, ...rest] = positionals;
  if (rest.length > 0 || (positionals.length > 0 && !values.report)) throw new Error(`what is ${rest[0] ?? report}?`);
  const wanted = SCENARIOS.filter(({ name }) => values.only?.some((text) => name.includes(text)) ?? true);
  if (wanted.length === 0) throw new Error(`no scenario has ${values.only?.join(' or ')} in its name`);
  if (values.list) {
    for (const { name } of wanted) say(name);
    return true;
  }
  const executable = values.executable === undefined ? await builtExecutable() : resolve(values.executable);
  await using environment = await openEnvironment();
  const factory = await openFactory(environment.work, executable);
  // All scenarios need both, and two at a time would each make their own.
  await Promise.all([nodeRoot(), smallImageSet()]);
  const jobs = Number(values.jobs);
  const limit = pLimit(jobs);
  const running = wanted.map(async (scenario) => {
    const outcome = await limit(() => runScenario(scenario, { environment, factory, signal, jobs, timeFactor: Number(values.slow) }));
    if (!values.json && !signal.aborted) tell(outcome);
    return outcome;
  });
  const outcomes = await Promise.all(running);
  signal.throwIfAborted();
  if (values.json) say(JSON.stringify(outcomes, undefined, 2));
  if (values.report)
    await writeReport({ file: resolve(report), executable, outcomes, jobs: Number(values.jobs), scenarioCount: SCENARIOS.length });
  const failed = outcomes.filter(({ ok }) => !ok);
  process.stderr.write(`${outcomes.length} scenarios, ${failed.length} failed\n`);
  return failed.length === 0;
}

function tell({ name, ok, seconds, boots, notes, failure }: Outcome): void {
  const units = boots.map(({ what, secondsUnitToReady, peakMemoryBytes }) => {
    const memory = peakMemoryBytes === undefined ? '' : ` ${formatBytes(peakMemoryBytes)}`;
    return secondsUnitToReady === undefined ? what : `${what} ${secondsUnitToReady.toFixed(2)} s${memory}`;
  });
  say(`${ok ? 'ok  ' : 'FAIL'} ${name} (${seconds.toFixed(1)} s; unit to ready: ${units.join(', ')})`);
  for (const line of [...notes, ...(failure?.split('\n') ?? [])]) say(`       ${line}`);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

const interrupted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => interrupted.abort(new Error(`ended by ${name}`)));
try {
  process.exitCode = (await main(interrupted.signal)) ? 0 : 1;
} catch (error) {
  process.stderr.write(`boot: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
