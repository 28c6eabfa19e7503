import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Environment } from './environment.ts';
import type { Factory } from './factory.ts';
import { lastLines } from './journal.ts';
import { type BootOptions, boot, type Machine } from './machine.ts';
import type { BootTimeline } from './timeline.ts';

/** What happens to one machine, from the factory on. It ends well or throws. */
export interface Scenario {
  readonly name: string;
  readonly run: (trial: Trial) => Promise<void>;
}

/** What a scenario works with, and what it leaves for the report. */
export interface Trial {
  readonly environment: Environment;
  readonly factory: Factory;
  /** A directory of this scenario alone. */
  readonly work: string;
  readonly signal: AbortSignal;
  /** By which limits of time are multiplied: 1, or more on a machine with other work. */
  readonly timeFactor: number;
  /** How many scenarios share the cores. */
  readonly jobs: number;
  readonly notes: string[];
  /** Boot by boot: what it was, and how long our unit took from its start to ready. */
  readonly boots: BootRecord[];
}

export interface BootRecord {
  readonly what: string;
  readonly secondsUnitToReady?: number;
  /** The most that the processes of our unit had in memory at one time, sampled. */
  readonly peakMemoryBytes?: number;
  /** Where the time of the whole boot went. */
  readonly timeline?: BootTimeline;
}

export interface Outcome {
  readonly name: string;
  readonly ok: boolean;
  readonly seconds: number;
  readonly boots: readonly BootRecord[];
  readonly notes: readonly string[];
  /** Why it is not ok, with the end of the machine's journal. */
  readonly failure?: string;
}

export interface TrialParts {
  readonly environment: Environment;
  readonly factory: Factory;
  readonly signal: AbortSignal;
  readonly timeFactor: number;
  readonly jobs: number;
}

/** Runs a scenario to its end; a fault is an outcome. */
export async function runScenario(scenario: Scenario, parts: TrialParts): Promise<Outcome> {
  const work = join(parts.environment.work, scenario.name.replaceAll(/[^a-z0-9]+/gi, '-'));
  await mkdir(work);
  const trial: Trial = { ...parts, work, notes: [], boots: [] };
  const started = performance.now();
  const outcome = (failure?: string): Outcome => ({
    name: scenario.name,
    ok: failure === undefined,
    seconds: (performance.now() - started) / 1000,
    boots: trial.boots,
    notes: trial.notes,
    ...(failure !== undefined && { failure }),
  });
  try {
    parts.signal.throwIfAborted();
    await scenario.run(trial);
    return outcome();
  } catch (error) {
    return outcome(explain(error));
  }
}

/** A fault with the end of its stack; where giving back what was held failed as well, the fault before that comes first. */
function explain(error: unknown): string {
  if (error instanceof SuppressedError) return `${explain(error.suppressed)}\nand then: ${explain(error.error)}`;
  return error instanceof Error ? `${error.message}\n${error.stack?.split('\n').slice(-6).join('\n') ?? ''}` : String(error);
}

/** Boots a machine, does something with it and takes it down. What fails meanwhile is told with the end of its journal. */
export async function withMachine<T>(
  trial: Trial,
  options: Omit<BootOptions, 'signal'>,
  act: (machine: Machine) => Promise<T>,
): Promise<T> {
  await using machine = await boot(trial.environment, { ...options, signal: trial.signal });
  try {
    return await act(machine);
  } catch (error) {
    const journal = (await lastLines(machine.root.journal, 60)).join('\n');
    throw new Error(`${error instanceof Error ? error.message : String(error)}\n--- end of the journal:\n${journal}`, { cause: error });
  }
}
