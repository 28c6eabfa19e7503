import { errorRecord } from '../../agent/model/errors.ts';
import { type Moment, type PowerScenario, runUndisturbed, tryCut } from './trial.ts';

/** A cut after which something was not as its record said, or did not come to its end. */
interface Lost extends Moment {
  readonly scenario: string;
  readonly reason: string;
}

/** What came of the cuts of a scenario. */
export interface CutFigures {
  readonly scenario: string;
  readonly tried: number;
  readonly recovered: number;
  readonly lost: number;
  /** Of those that were tried, where the end was on record before the cut. */
  readonly done: number;
  readonly failures: readonly Lost[];
}

/** Cuts the power of a scenario at some moments, one machine after the other, and tells each loss as it comes. */
export async function cutAll(scenario: PowerScenario, moments: readonly Moment[]): Promise<CutFigures> {
  await using prepared = await scenario.prepare();
  const usual = await runUndisturbed(prepared);
  const failures: Lost[] = [];
  let done = 0;
  for (const moment of moments) {
    try {
      if (await tryCut(prepared, moment, usual)) done++;
    } catch (error) {
      const lost = { scenario: scenario.name, ...moment, reason: errorRecord(error).message };
      failures.push(lost);
      process.stderr.write(`LOST ${JSON.stringify(lost, undefined, 2)}\n`);
    }
  }
  const [tried, lost] = [moments.length, failures.length];
  process.stderr.write(
    `${scenario.name} (${Math.round(usual.durationMs)} ms): ${tried} tried, ${tried - lost} recovered, ${done} of them on record before the cut\n`,
  );
  return { scenario: scenario.name, tried, recovered: tried - lost, lost, done, failures };
}

/** The figures of all scenarios, as they are printed. Pure. */
export function reportOf(seed: number, results: readonly CutFigures[]) {
  const sum = (key: 'tried' | 'recovered' | 'lost') => results.reduce((total, one) => total + one[key], 0);
  return {
    seed,
    tried: sum('tried'),
    recovered: sum('recovered'),
    lost: sum('lost'),
    scenarios: results.map(({ scenario, tried, recovered, lost, done }) => ({ scenario, tried, recovered, lost, done })),
    failures: results.flatMap(({ failures }) => failures),
  };
}
