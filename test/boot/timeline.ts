import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runStateOf } from '../../agent/model/run-state.ts';
import type { RunTimeline } from '../../agent/model/run-timeline.ts';
import { unsealRecord } from '../../agent/model/seal.ts';
import { DURABLE_STATE } from '../../agent/state/run-record.ts';
import { clockOffsetMs, unitTimes } from './journal.ts';
import type { MachineRoot } from './machine-root.ts';

/** What one boot spent its time with, in milliseconds since systemd began to start the first unit. */
export interface BootTimeline {
  /** Units that began to start, in that order. */
  readonly units: readonly UnitSpan[];
  /** The unit that runs the agent. */
  readonly ours: string;
  /** What the agent says of itself; undefined where it is one that says nothing. */
  readonly run?: RunSpan;
}

export interface UnitSpan {
  readonly name: string;
  readonly startMs: number;
  /** When it had started, or failed; undefined where it still was at it. */
  readonly endMs?: number;
  readonly hasFailed: boolean;
}

export interface RunSpan {
  /** When the agent had its lock and began. */
  readonly startMs: number;
  /** In milliseconds since that. */
  readonly timeline: RunTimeline;
}

/** Units of a live system whose time matters. */
export const DISCOVERY_UNITS = [
  'prestage-agent-discovery.service',
  'prestage-registry.service',
  'prestage-check.service',
  'agent.service',
] as const;

/** The same of an installed one. */
export const INSTALLED_UNITS = [
  'crio-wipe.service',
  'prestage-agent-installed.service',
  'prestage-registry.service',
  'prestage-check.service',
  'machine-config-daemon-pull.service',
  'machine-config-daemon-firstboot.service',
  'nodeip-configuration.service',
  'crio.service',
  'kubelet.service',
] as const;

/**
 * The last boot of a machine, read from outside, whether it still runs or not.
 * @param wanted units, if they were started; ours is among them
 */
export async function readTimeline(root: MachineRoot, ours: string, wanted: readonly string[]): Promise<BootTimeline> {
  const [times, offsetMs] = await Promise.all([unitTimes(root.journal), clockOffsetMs(root.journal)]);
  const state = runStateOf(unsealRecord(await readFile(join(root.path, DURABLE_STATE), 'utf8')));
  const zeroMs = Math.min(...[...times.values()].flatMap(({ startingMs }) => startingMs ?? []));
  const units = wanted.flatMap((name): UnitSpan[] => {
    const { startingMs, startedMs, failedMs } = times.get(name) ?? {};
    if (startingMs === undefined) return [];
    const endMs = startedMs ?? failedMs;
    return [
      { name, startMs: startingMs - zeroMs, hasFailed: failedMs !== undefined, ...(endMs !== undefined && { endMs: endMs - zeroMs }) },
    ];
  });
  return {
    units: units.toSorted((a, b) => a.startMs - b.startMs),
    ours,
    ...(state?.timeline && { run: { startMs: Date.parse(state.startedAt) - offsetMs - zeroMs, timeline: state.timeline } }),
  };
}
