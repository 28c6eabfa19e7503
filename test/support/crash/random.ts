import { type CrashScenario, figuresOf, isKilled, type KillFigures, type PreparedScenario, recover, undisturbed } from './points.ts';

export interface KillsRequest {
  readonly scenarios: readonly CrashScenario[];
  /** Kills that strike while the command is at work. */
  readonly count: number;
  /** The same seed gives the same scenarios and, as shares of the usual duration, the same moments. */
  readonly seed: number;
  readonly onKill: (kill: RandomKill) => void;
}

export interface RandomKill {
  readonly scenario: string;
  readonly afterMs: number;
  /** Undefined where the command came to the same end. */
  readonly lost: unknown;
}

/** Of kills that come too late, so many are borne with. */
const LATE_FACTOR = 3;

/** Kills commands at random moments of their usual duration, and gives them again. Every scenario is prepared once. */
export async function killAtRandom({ scenarios, count, seed, onKill }: KillsRequest): Promise<readonly KillFigures[]> {
  await using stack = new AsyncDisposableStack();
  const random = randomFrom(seed);
  const known = new Map<CrashScenario, Known>();
  for (let struck = 0, left = count * LATE_FACTOR; struck < count; left--) {
    if (left === 0) throw new Error(`only ${struck} of ${count} kills struck in time`);
    const scenario = scenarios[Math.floor(random() * scenarios.length)];
    if (scenario === undefined) throw new Error('there is no scenario');
    const one = known.get(scenario) ?? (await getToKnow(scenario, stack));
    known.set(scenario, one);
    const afterMs = Math.round(random() * one.usualMs);
    const kill = await killOnce(scenario, one, afterMs);
    if (kill === undefined) continue;
    struck++;
    onKill(kill);
  }
  return [...known.values()].map(({ figures }) => figures);
}

interface Known {
  readonly prepared: PreparedScenario;
  readonly wanted: unknown;
  readonly usualMs: number;
  readonly figures: KillFigures;
}

async function getToKnow(scenario: CrashScenario, stack: AsyncDisposableStack): Promise<Known> {
  const prepared = stack.use(await scenario.prepare());
  const { end, durationMs } = await undisturbed(scenario, prepared);
  return { prepared, wanted: end, usualMs: durationMs, figures: figuresOf(scenario.name) };
}

/** Undefined where the command was through before. */
async function killOnce(scenario: CrashScenario, known: Known, afterMs: number): Promise<RandomKill | undefined> {
  await using place = await known.prepared.open();
  // `--foreground`: the agent alone, not the programs that it has started. Source: timeout(1).
  const ended = await place.run({}, ['timeout', '--foreground', '--signal=KILL', String(afterMs / 1000)]);
  if (!isKilled(ended)) return undefined;
  const lost = await recover(place, scenario, known).then(
    () => undefined,
    (error: unknown) => error,
  );
  return { scenario: scenario.name, afterMs, lost };
}

/** Numbers from 0 to below 1. Source: mulberry32, by Tommy Ettinger, in the public domain. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
