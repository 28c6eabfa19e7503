import type { BundleImage } from '../model/bundle.ts';
import type { RunState } from '../model/run-state.ts';
import type { OnRunEvent, RunEvent } from '../state/progress.ts';
import type { RunRecord } from '../state/run-record.ts';
import type { PlanStep } from './plan.ts';
import type { Needs } from './preflight.ts';

/** Puts the plan into the state, image by image in the order of the list. */
export function recordPlan(
  plan: { readonly steps: readonly PlanStep[]; readonly needs: Needs; readonly order: readonly string[] },
  record: RunRecord,
  onEvent: OnRunEvent,
): void {
  const { steps, needs } = plan;
  const place = new Map(plan.order.map((reference, index) => [reference, index]));
  const images = steps.map((planned): RunState['images'][number] => {
    if (planned.kind === 'refuse')
      return {
        reference: planned.image.reference,
        names: [],
        digests: [],
        state: 'failed',
        reason: planned.image.error.message,
        error: planned.image.error,
      };
    const { reference, names, digests, archiveBytes } = planned.image;
    const common = { reference, names: [...names], digests: [...digests], archiveBytes };
    if (planned.kind === 'keep') return { ...common, state: 'present', reason: 'reference and digest are in storage' };
    const damage = planned.replaces.map((replaced) => `image ${replaced.image.id}: ${replaced.reason}`).join('; ');
    return { ...common, state: 'pending', ...(damage && { reason: `damaged: ${damage}` }) };
  });
  const bytes = steps.reduce((sum, planned) => sum + (planned.kind === 'load' ? planned.image.archiveBytes : 0), 0);
  images.sort((a, b) => (place.get(a.reference) ?? 0) - (place.get(b.reference) ?? 0));
  record.update({ images, parallel: needs.parallel, bytes: { total: bytes, done: 0 } });
  const alreadyDone = steps.filter((planned) => planned.kind === 'keep').length;
  const toLoad = steps.filter((planned) => planned.kind === 'load').length;
  onEvent({ kind: 'planned', images: steps.length, alreadyDone, toLoad, bytes });
  for (const { reference, error } of steps.flatMap((planned) => (planned.kind === 'refuse' ? [planned.image] : [])))
    onEvent({ kind: 'image-finished', reference, result: 'failed', bytes: 0, error });
}

/** Puts the events into the state, then passes them on. */
export function recording(record: RunRecord, onEvent: OnRunEvent): OnRunEvent {
  const attempts = new Map<string, { readonly startMs: number; readonly count: number }>();
  return (event: RunEvent) => {
    if (event.kind === 'image-started') {
      attempts.set(event.reference, { startMs: attempts.get(event.reference)?.startMs ?? performance.now(), count: event.attempt });
      record.updateImage(event.reference, { state: 'loading', attempts: event.attempt });
    }
    if (event.kind === 'image-finished') {
      const attempt = attempts.get(event.reference);
      const durationMs = attempt === undefined ? 0 : Math.round(performance.now() - attempt.startMs);
      record.updateImage(event.reference, {
        state: event.result,
        durationMs,
        ...(event.error && { error: event.error, reason: event.error.message }),
      });
      const readBytes = event.result === 'skipped' ? 0 : event.bytes;
      record.update({ bytes: { ...record.state.bytes, done: record.state.bytes.done + readBytes } });
    }
    onEvent(event);
  };
}

/** What the bundle says of each image: platforms that it lacks, which a node of another platform does not get from here, and its names in releases. Pure. */
export function withBundleFacts(images: RunState['images'], ofBundle: readonly BundleImage[]): RunState['images'] {
  const facts = new Map(ofBundle.map((image) => [image.reference, image]));
  return images.map((image) => {
    const { absent, components } = facts.get(image.reference) ?? {};
    return { ...image, ...(absent && { absent }), ...(components && { components }) };
  });
}
