import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { ActName } from '../../../agent/host/acts.ts';
import { type Figures, keepFigures } from '../figures.ts';
import { HAS_ALL, inLane, sidesOf } from './sides.ts';

/** How a command ended. */
export interface CommandEnd {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A place in which a command of the agent changes something, and has not yet. */
export interface CrashPlace extends AsyncDisposable {
  /**
   * Gives the command once, with these variables in its environment.
   * @param under put in front of the agent's argv: `['timeout', '--foreground', …]`
   */
  run(env: Readonly<Record<string, string>>, under?: readonly string[]): Promise<CommandEnd>;
  /** What the command has brought about, equal for equal ends: images, hashes of files, mounts. */
  end(): Promise<unknown>;
  /** Looks at what a kill has left, before the command is given again. */
  afterKill?(point: string): Promise<void>;
}

/** What is made once for all places of a scenario. */
export interface PreparedScenario extends AsyncDisposable {
  open(): Promise<CrashPlace>;
}

export interface CrashScenario {
  /** The command, and in which case. */
  readonly name: string;
  /** The steps that this is about: each must be reached. */
  readonly steps: readonly ActName[];
  /** Exit codes of the command when it comes to its end; 0 where left out. */
  readonly exitCodes?: readonly number[];
  /** Why it cannot be tried here, in words. */
  unavailable?(): Promise<string | undefined>;
  prepare(): Promise<PreparedScenario>;
}

/** Of so many points of a command `npm test` takes one. */
const EVERY = 6;

/** What became of kills, counted while they go on. */
export type KillFigures = { -readonly [K in keyof Figures]: Figures[K] };

export function figuresOf(scenario: string): KillFigures {
  return { scenario, tried: 0, recovered: 0, lost: 0 };
}

/** Keeps the figures of a suite for the report, where all points were asked for. */
export async function keepCrashFigures(figures: KillFigures): Promise<void> {
  if (HAS_ALL) await keepFigures('crash', [figures]);
}

/** The steps that a command has passed, in order, as PRESTAGE_DEBUG makes it tell them. */
export function stepsTold(stderr: string): readonly string[] {
  return [...stderr.matchAll(/^(?:<7>|debug: )step ([a-z-]+)$/gm)].map((found) => found[1] ?? '');
}

/** `before:NAME:1` and `after:NAME:1`, or one of them, and of a step that is passed several times also after the last. Pure. */
export function pointsOf(steps: readonly ActName[], passed: readonly string[], sides = sidesOf): readonly string[] {
  return steps.flatMap((name) => {
    const times = passed.filter((one) => one === name).length;
    const last = times > 1 ? [`after:${name}:${times}`] : [];
    return [...sides(name).map((side) => `${side}:${name}:1`), ...last];
  });
}

/** The end that an undisturbed command comes to, the steps that it passes, and how long it takes. */
export async function undisturbed(
  { exitCodes = [0] }: CrashScenario,
  prepared: Pick<PreparedScenario, 'open'>,
): Promise<{ readonly end: unknown; readonly passed: readonly string[]; readonly durationMs: number }> {
  await using place = await prepared.open();
  const startMs = performance.now();
  const { exitCode, stderr } = await place.run({ PRESTAGE_DEBUG: '1' });
  const durationMs = performance.now() - startMs;
  assert.ok(exitCodes.includes(exitCode), `exit code ${exitCode}: ${stderr}`);
  return { end: await place.end(), passed: stepsTold(stderr), durationMs };
}

/** Gives the same command again after a kill; it has to come to the end. */
export async function recover(
  place: CrashPlace,
  { exitCodes = [0] }: CrashScenario,
  { wanted, figures }: { readonly wanted: unknown; readonly figures: KillFigures },
): Promise<void> {
  await counted(figures, 1, async () => {
    const { exitCode, stderr } = await place.run({});
    assert.ok(exitCodes.includes(exitCode), `exit code ${exitCode}: ${stderr}`);
    assert.deepEqual(await place.end(), wanted);
  });
}

/** Counts kills as recovered where what comes after them holds. */
export async function counted(figures: KillFigures, kills: number, act: () => Promise<void>): Promise<void> {
  figures.tried += kills;
  figures.lost += kills;
  await act();
  figures.lost -= kills;
  figures.recovered += kills;
}

/** Whether SIGKILL ended a command. */
export function isKilled({ exitCode }: CommandEnd): boolean {
  return exitCode === 128 + 9;
}

/** Kills the command before or after steps of the scenario, or on both sides of each, and gives it again. */
export function testCrashes(scenario: CrashScenario): void {
  const figures = figuresOf(scenario.name);
  after(async () => await keepCrashFigures(figures));
  test(`${scenario.name}, killed at its steps, comes to the same end when it is given again`, async (t) => {
    const reason = await scenario.unavailable?.();
    if (reason !== undefined) return t.skip(reason);
    await using prepared = await scenario.prepare();
    const { end, passed } = await undisturbed(scenario, prepared);
    const missed = scenario.steps.filter((name) => !passed.includes(name));
    assert.deepEqual(missed, [], `passed were only: ${passed.join(' ')}`);
    for (const point of inLane(pointsOf(scenario.steps, passed), EVERY, scenario.name)) {
      await t.test(point.replaceAll(':', ' '), async () => {
        await using place = await prepared.open();
        const crash = await place.run({ PRESTAGE_CRASH_AT: point });
        assert.ok(isKilled(crash), `the act was not reached (exit code ${crash.exitCode}): ${crash.stderr}`);
        await place.afterKill?.(point);
        await recover(place, scenario, { wanted: end, figures });
      });
    }
  });
}
