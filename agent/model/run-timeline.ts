import * as v from 'valibot';

/** The phases of a run, in their order. */
export const runPhases = [
  'starting',
  'waiting-for-partition',
  'reading-bundle',
  'opening-store',
  'making-tree',
  'serving',
  'loading',
  'syncing',
  'finished',
] as const;

export type RunPhase = (typeof runPhases)[number];

/** The times of a run's phases and steps, in whole milliseconds since `startedAt`, by the monotonic clock. */
export const timelineSchema = v.object({
  /** In the order of their starts; during a run, the last one has no end. */
  phases: v.array(v.object({ name: v.picklist(runPhases), startMs: v.number(), endMs: v.optional(v.number()) })),
  /** The named steps that have ended, successfully or not. A repeated step is listed once: from its first start to its last end. */
  steps: v.array(v.object({ name: v.string(), count: v.number(), startMs: v.number(), endMs: v.number() })),
});

export type RunTimeline = v.InferOutput<typeof timelineSchema>;

/** The timeline of a run that has just begun. */
export const newTimeline: RunTimeline = { phases: [{ name: 'starting', startMs: 0 }], steps: [] };

/** Ends the current phase and begins the next; `finished` only ends. Pure. */
export function enterPhase({ phases, steps }: RunTimeline, name: RunPhase, atMs: number): RunTimeline {
  const now = Math.round(atMs);
  const ended = phases.map((phase) => ({ endMs: now, ...phase }));
  return { phases: name === 'finished' ? ended : [...ended, { name, startMs: now }], steps };
}

/** Adds a step that has ended. Pure. */
export function leaveAct(
  { phases, steps }: RunTimeline,
  step: { readonly name: string; readonly startMs: number; readonly endMs: number },
): RunTimeline {
  const [startMs, endMs] = [Math.round(step.startMs), Math.round(step.endMs)];
  const before = steps.find(({ name }) => name === step.name);
  if (before === undefined) return { phases, steps: [...steps, { name: step.name, count: 1, startMs, endMs }] };
  const joined = { ...before, count: before.count + 1, startMs: Math.min(before.startMs, startMs), endMs: Math.max(before.endMs, endMs) };
  return { phases, steps: steps.map((each) => (each === before ? joined : each)) };
}
