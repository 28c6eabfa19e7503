import { dirname } from 'node:path';
import { version } from '../assets.ts';
import { type ArchivesPayload, readArchives } from '../extract/archives.ts';
import { createLoader, type Loader } from '../extract/load.ts';
import { locateStorage } from '../extract/location.ts';
import { type ArchivePool, createArchivePool } from '../extract/pool.ts';
import { inspectStorage, type StorageLocation } from '../extract/storage.ts';
import { processStartTicks, readBootId } from '../host/boot.ts';
import { output } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import { takeLock, waitForShared } from '../host/lock.ts';
import { reclaimMount } from '../host/mounts.ts';
import { availableMemoryBytes, spaceAt } from '../host/space.ts';
import type { Step } from '../host/steps.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { outcomeOf, type RunState, STATE_VERSION, suspectAfter } from '../model/run-state.ts';
import type { Settings } from '../model/settings.ts';
import type { Stage } from '../model/stage.ts';
import { openPartition, PARTITION_TARGET } from '../partition/open.ts';
import { chooseDelivery } from './delivery.ts';
import { executeLoads } from './execute.ts';
import { type LoadStep, type PlanStep, planSteps } from './plan.ts';
import { computeNeeds, findShortages, type Needs } from './preflight.ts';
import type { OnRunEvent, RunEvent } from './progress.ts';
import { chooseScratch, makeScratch, reclaimScratch, removeScratch } from './scratch.ts';
import { createStateStore, DURABLE_STATE, readState, type StateStore } from './state-store.ts';
import { readSurveys, surveyArchives, writeSurveys } from './survey.ts';

export const LOCK_FILE = '/run/prestage-agent/lock';
const WRITERS_LOCK = '/run/prestage-agent/writers.lock';
/** How long writers that a killed run left behind may take to end, in seconds: the longest layer. */
const WRITERS_WAIT_SECONDS = 600;

export interface RunOptions {
  readonly settings: Settings & { readonly stage: Stage };
  readonly step: Step;
  /** No new image once it has fired. */
  readonly stop: AbortSignal;
  /** Ends what is at work, too. */
  readonly kill: AbortSignal;
  readonly onEvent: OnRunEvent;
  /** Plans, and writes nothing. */
  readonly isDry: boolean;
}

export interface RunReport {
  readonly state: RunState;
  /** What was planned; empty where the run did not come that far. */
  readonly steps: readonly PlanStep[];
  readonly needs: Needs | undefined;
}

/** What the parts of one run share. */
interface RunContext extends RunOptions {
  readonly host: Host;
  readonly store: StateStore;
  readonly stage: Stage;
}

/**
 * Makes containers-storage equal to the bundle, for one stage: what is there stays, what is missing or damaged is loaded. Always ends with a
 * state that says how it ended; only what comes before the state exists (another instance at work) is thrown.
 * @throws PrestageError ERR_LOCKED
 */
export async function run(host: Host, options: RunOptions): Promise<RunReport> {
  const { settings, step } = options;
  await using _lock = await step(
    'take-lock',
    async () =>
      await takeLock({ path: hostPath(host, LOCK_FILE), waitSeconds: settings.lockWaitSeconds, command: `run --stage ${settings.stage}` }),
  );
  const startMs = host.clock.monotonicMs();
  const store = createStateStore(host, await initialState(host, settings), options.isDry);
  const context: RunContext = { ...options, host, store, stage: settings.stage, onEvent: recording(store, options.onEvent) };
  let plan: Pick<RunReport, 'steps' | 'needs'> = { steps: [], needs: undefined };
  try {
    if (!options.isDry) await step('record-start', async () => await store.commit());
    plan = await withSource(context, async (directory) => await reconcile(directory, context));
  } catch (error) {
    store.update({
      error: errorRecord(
        options.stop.aborted
          ? new PrestageError('ERR_INTERRUPTED', 'the run was asked to end', 'Start the run again: it goes on from here', { cause: error })
          : error,
      ),
    });
  }
  const { state } = store;
  const outcome = options.stop.aborted
    ? 'interrupted'
    : state.error !== undefined && state.images.length === 0
      ? 'failed'
      : outcomeOf(state.images);
  store.update({
    phase: 'finished',
    outcome,
    finishedAt: host.clock.now().toISOString(),
    durationMs: Math.round(host.clock.monotonicMs() - startMs),
  });
  if (!options.isDry) await step('record-end', async () => await store.commit());
  return { state: store.state, ...plan };
}

async function initialState(host: Host, settings: RunOptions['settings']): Promise<RunState> {
  const bootId = await readBootId();
  const earlier = await readState(host, DURABLE_STATE);
  return {
    apiVersion: STATE_VERSION,
    kind: 'RunState',
    agentVersion: version,
    bootId,
    pid: process.pid,
    processStartTicks: (await processStartTicks(process.pid)) ?? 0,
    startedAt: host.clock.now().toISOString(),
    stage: settings.stage,
    policy: settings.policy,
    phase: 'starting',
    bytes: { total: 0, done: 0 },
    notices: [],
    images: [],
    unsynced: earlier?.bootId === bootId ? earlier.unsynced : [],
    suspect: [...suspectAfter(earlier, bootId)],
  };
}

/** Gives the directory of the bundle for as long as the action needs it: a directory as it is, or the partition as a lease. */
async function withSource<T>(context: RunContext, action: (directory: string) => Promise<T>): Promise<T> {
  const { host, settings, store, step } = context;
  if (settings.bundle !== undefined) {
    store.update({ source: { kind: 'directory', path: settings.bundle } });
    return await action(settings.bundle);
  }
  const target = hostPath(host, PARTITION_TARGET);
  await step('reclaim-mount', async () => await reclaimMount(host, target));
  store.update({ phase: 'waiting-for-partition', source: { kind: 'partition', label: settings.label } });
  context.onEvent({ kind: 'phase', text: `looking for the partition "${settings.label}"` });
  await using partition = await openPartition(
    host,
    { label: settings.label, waitSeconds: settings.deviceWaitSeconds, target },
    step,
    context.stop,
  );
  store.update({ source: { kind: 'partition', label: settings.label, device: partition.device, fileSystem: partition.fileSystem } });
  return await action(partition.path);
}

async function reconcile(directory: string, context: RunContext): Promise<Pick<RunReport, 'steps' | 'needs'>> {
  const { host, settings, store, step, isDry } = context;
  context.onEvent({ kind: 'phase', text: 'reading the bundle' });
  store.update({ phase: 'reading-bundle' });
  const payload = await readArchives(directory, context.stage);
  const location = await locateStorage(host, {
    ...(settings.graphroot && { graphroot: settings.graphroot }),
    ...(settings.runroot && { runroot: settings.runroot }),
  });
  store.update({
    payload: payload.kind,
    delivery: chooseDelivery(settings.delivery, payload.kind),
    storage: location,
    notices: [...payload.notices],
  });
  const memoryBytes = await availableMemoryBytes();
  await using pool = createArchivePool({ size: Math.max(1, settings.parallel ?? host.cores), log: host.log });
  const { steps, surveys } = await plan(payload, location, pool, context);
  const loads = steps.filter((planned) => planned.kind === 'load');
  const needs = computeNeeds(loads, { cores: host.cores, memoryBytes }, settings.parallel);
  recordPlan(steps, needs, store, context.onEvent);
  const scratchPath = await chooseScratch(host, settings.scratch, { bytes: needs.scratchBytes, memoryBytes });
  const shortages = findShortages(
    needs,
    { cores: host.cores, memoryBytes, storage: await spaceAt(location.graphroot), scratch: await spaceAt(scratchPath) },
    context.stage,
  );
  for (const shortage of shortages) host.log('error', shortage.message);
  if (shortages[0] !== undefined) throw shortages[0];
  if (isDry) return { steps, needs };
  if (surveys.size > 0 && loads.length > 0) await step('record-survey', async () => await writeSurveys(host, surveys));
  if (loads.length > 0) await deliver(loads, { payload, location, pool, needs, scratchPath }, context);
  if (store.state.unsynced.length > 0) await syncStorage(location, context);
  return { steps, needs };
}

async function plan(payload: ArchivesPayload, location: StorageLocation, pool: ArchivePool, context: RunContext) {
  const suspect = new Set(context.store.state.suspect);
  const storage = await inspectStorage(location);
  const surveyed = await surveyArchives(payload, storage, {
    host: context.host,
    pool,
    known: await readSurveys(context.host),
    suspect,
    signal: context.stop,
  });
  const order = new Map(
    [...payload.images.map((image) => image.listed.text), ...payload.refused.map((image) => image.reference)].map((reference, index) => [
      reference,
      index,
    ]),
  );
  const refused = surveyed.refused.toSorted((a, b) => (order.get(a.reference) ?? 0) - (order.get(b.reference) ?? 0));
  return { steps: planSteps({ images: surveyed.images, refused, storage, suspect }), surveys: surveyed.surveys };
}

function recordPlan(steps: readonly PlanStep[], needs: Needs, store: StateStore, onEvent: OnRunEvent): void {
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
  store.update({ images, parallel: needs.parallel, bytes: { total: bytes, done: 0 } });
  onEvent({ kind: 'planned', images: steps.length, alreadyDone: steps.filter((planned) => planned.kind === 'keep').length, bytes });
}

interface Delivery {
  readonly payload: ArchivesPayload;
  readonly location: StorageLocation;
  readonly pool: ArchivePool;
  readonly needs: Needs;
  readonly scratchPath: string;
}

async function deliver(loads: readonly LoadStep[], delivery: Delivery, context: RunContext): Promise<void> {
  const { host, settings, store, step } = context;
  const { payload, location, pool, needs } = delivery;
  const writersLock = hostPath(host, WRITERS_LOCK);
  await waitForShared(host.exec, writersLock, WRITERS_WAIT_SECONDS);
  store.update({ phase: 'loading', unsynced: [...new Set([...store.state.unsynced, ...loads.map((load) => load.image.reference)])] });
  await step('record-plan', async () => await store.commit());
  await step('reclaim-scratch', async () => await reclaimScratch(host, settings.scratch));
  const scratch = await step('make-scratch', async () => await makeScratch(delivery.scratchPath));
  try {
    const loader = createLoader({ exec: host.exec, location, temporaryDirectory: scratch.temporary, writersLock, signal: context.kill });
    await removeDamaged(loads, loader, context);
    context.onEvent({ kind: 'phase', text: 'loading images' });
    const archives = new Map(payload.images.map((image) => [image.listed.text, image]));
    await executeLoads(loads, {
      ...context,
      pool,
      loader,
      location,
      scratch: scratch.path,
      scratchBytes: needs.scratchBytes / 2,
      parallel: needs.parallel,
      retries: settings.retries,
      archives,
    });
  } finally {
    await step('remove-scratch', async () => await removeScratch(scratch.path));
  }
}

/** All damaged records go before the first image is loaded: a layer goes only with the last image that has it. */
async function removeDamaged(loads: readonly LoadStep[], loader: Loader, context: RunContext): Promise<void> {
  const damaged = new Map(loads.flatMap((load) => load.replaces.map((replaced) => [replaced.image.id, replaced] as const)));
  for (const { image, reason } of damaged.values()) {
    context.host.log('warning', `image ${image.id} (${image.names.join(', ')}) is damaged and is loaded again: ${reason}`);
    await context
      .step('remove-damaged', async () => await loader.remove(image))
      .catch((error: unknown) => context.host.log('error', errorRecord(error).message));
  }
}

/** Nothing that a load writes is synced by skopeo: only after this may the state say that it is there. Source: sync(1), --file-system. */
async function syncStorage(location: StorageLocation, context: RunContext): Promise<void> {
  context.onEvent({ kind: 'phase', text: 'writing to disk' });
  context.store.update({ phase: 'syncing' });
  await context.step(
    'sync-storage',
    async () => await output(context.host.exec, 'sync', ['--file-system', location.graphroot, dirname(location.graphroot)]),
  );
  const failed = new Set(context.store.state.images.filter((image) => image.state === 'failed').map((image) => image.reference));
  context.store.update({ unsynced: [], suspect: context.store.state.suspect.filter((reference) => failed.has(reference)) });
}

/** Writes down what the events say, then hands them on. */
function recording(store: StateStore, onEvent: OnRunEvent): OnRunEvent {
  const attempts = new Map<string, { readonly startMs: number; readonly count: number }>();
  return (event: RunEvent) => {
    if (event.kind === 'image-started') {
      attempts.set(event.reference, { startMs: attempts.get(event.reference)?.startMs ?? performance.now(), count: event.attempt });
      store.updateImage(event.reference, { state: 'loading', attempts: event.attempt });
    }
    if (event.kind === 'image-finished') {
      const attempt = attempts.get(event.reference);
      const durationMs = attempt === undefined ? 0 : Math.round(performance.now() - attempt.startMs);
      store.updateImage(event.reference, {
        state: event.result,
        durationMs,
        ...(event.error && { error: event.error, reason: event.error.message }),
      });
      store.update({ bytes: { ...store.state.bytes, done: store.state.bytes.done + event.bytes } });
    }
    onEvent(event);
  };
}
