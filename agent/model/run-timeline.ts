import * as v from 'valibot';

/** What a run is about, one after the other. */
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

/** When a run did what, in whole milliseconds since `startedAt`, by the monotonic clock. */
export const timelineSchema = v.object({
  /** In the order of their starts; the last one of a run that goes on has no end. */
  phases: v.array(v.object({ name: v.picklist(runPhases), startMs: v.number(), endMs: v.optional(v.number()) })),
  /** The named steps that it has left, also by a fault. One that was passed several times is there once: from its first start to its last end. */
  steps: v.array(v.object({ name: v.string(), count: v.number(), startMs: v.number(), endMs: v.number() })),
});

export type RunTimeline = v.InferOutput<typeof timelineSchema>;

/** A run that has just begun. */
export const newTimeline: RunTimeline = { phases: [{ name: 'starting', startMs: 0 }], steps: [] };

/** Ends the phase before, and begins the next; `finished` only ends. Pure. */
export function enterPhase({ phases, steps }: RunTimeline, name: RunPhase, atMs: number): RunTimeline {
  const now = Math.round(atMs);
  const ended = phases.map((phase) => ({ endMs: now, ...phase }));
  return { phases: name === 'finished' ? ended : [...ended, { name, startMs: now }], steps };
}

/** Adds a step that was left. Pure. */
export function leaveStep(
  { phases, steps }: RunTimeline,
  step: { readonly name: string; readonly startMs: number; readonly endMs: number },
): RunTimeline {
  const [startMs, endMs] = [Math.round(step.startMs), Math.round(step.endMs)];
  const before = steps.find(({ name }) => name === step.name);
  if (before === undefined) return { phases, steps: [...steps, { name: step.name, count: 1, startMs, endMs }] };
  const joined = { ...before, count: before.count + 1, startMs: Math.min(before.startMs, startMs), endMs: Math.max(before.endMs, endMs) };
  return { phases, steps: steps.map((each) => (each === before ? joined : each)) };
}
