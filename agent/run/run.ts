import { version } from '../assets.ts';
import { readStageBundle } from '../bundle/read-payload.ts';
import { processStartTicks, readBootId } from '../host/boot.ts';
import { type Host, hostPath } from '../host/host.ts';
import { unmount } from '../host/mounts.ts';
import { takeRunLock } from '../host/run-lock.ts';
import { addNotices, beginPhase, interruptedError, type Planned, type RunContext, type RunOptions } from '../load/context.ts';
import { clearAfterKilledRun } from '../load/load-images.ts';
import { recording, withBundleFacts } from '../load/record-plan.ts';
import { checkScratch } from '../load/scratch.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { type ImageState, outcomeOf, type RunState, STATE_VERSION, suspectAfter } from '../model/run-state.ts';
import { newTimeline } from '../model/run-timeline.ts';
import { startCheck } from '../mount/start-check.ts';
import { openPartition, PARTITION_TARGET } from '../partition/open.ts';
import { missingPolicy } from '../signatures/node-policy.ts';
import { createRunRecord, DURABLE_STATE, readState } from '../state/run-record.ts';
import { locateStorage } from '../storage/location.ts';
import type { StorageLocation } from '../storage/records.ts';
import { checkArchitecture } from './check-architecture.ts';
import { deliverBundle } from './deliver.ts';
import { keptBundle } from './disk-bundle.ts';
import { healAfterFailure } from './heal.ts';
import { removeDeadMirrors } from './mirrors.ts';
import { serveAgain } from './serve-again.ts';

const LOST_RECORD = `${DURABLE_STATE} cannot be read: a power cut may have interrupted the last run; if an image does not start, remove it with podman rmi and start the run again`;

/** How a run ended, and what it had planned by then. */
export interface RunReport extends Planned {
  readonly state: RunState;
}

/**
 * Makes the images of the bundle available on this node, for one stage: existing images are kept, missing or damaged ones are delivered. Always ends
 * with a state that says how it ended; only faults from before the state exists (another instance at work) are thrown.
 * @throws PrestageError ERR_LOCKED, ERR_PLACE
 */
export async function run(host: Host, options: RunOptions): Promise<RunReport> {
  const { settings, act } = options;
  await using _lock = await lockFor(host, options);
  const startMs = host.clock.monotonicMs();
  const found = await readState(host, DURABLE_STATE);
  const earlier = found === 'damaged' ? undefined : found;
  const record = createRunRecord(host, await initialState(host, settings, found), options.isDry);
  const onEvent = recording(record, options.onEvent);
  const context: RunContext = { ...options, act: record.timed(act), host, record, stage: settings.stage, onEvent };
  let plan: Planned = { steps: [], needs: undefined, setup: [] };
  try {
    await checkScratch(host, settings.scratch);
    await tellMissingPolicy(context);
    if (!options.isDry) await act('record-start', async () => await record.commit());
    plan = await withSource(context, async (directory) => await reconcile(directory, context));
  } catch (error) {
    const failure = errorRecord(options.stop.aborted ? interruptedError(error) : error);
    record.update({ error: failure, images: record.state.images.map((image) => givenUp(image, failure)) });
    if (!options.isDry && !options.stop.aborted) await healAfter(failure, earlier, context);
  }
  const durationMs = Math.round(host.clock.monotonicMs() - startMs);
  record.update({
    phase: 'finished',
    outcome: endOf(record.state, options.stop.aborted),
    finishedAt: host.clock.now().toISOString(),
    durationMs,
  });
  if (!options.isDry) await act('record-end', async () => await record.commit());
  return { state: record.state, ...plan };
}

/** A missing policy changes nothing in a run: loaded images need no pull, and the mirrors are right once there is a policy. */
async function tellMissingPolicy({ host, record }: RunContext): Promise<void> {
  const missing = await missingPolicy(host);
  if (missing === undefined) return;
  host.log('warning', missing.message);
  record.update({ missingPolicy: missing });
  addNotices({ record }, [`${missing.message}. ${missing.remedy}`]);
}

function endOf(state: RunState, isStopped: boolean): NonNullable<RunState['outcome']> {
  const outcome = state.error !== undefined && state.images.length === 0 ? 'failed' : outcomeOf(state.images);
  return isStopped && (outcome !== 'complete' || state.error !== undefined) ? 'interrupted' : outcome;
}

/** On a node that an earlier run has set up, the engines must work even if this run failed. */
async function healAfter(failure: ErrorRecord, earlier: RunState | undefined, context: RunContext): Promise<void> {
  const { host, record, act, settings } = context;
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      const [first, fault] = [record.state.error ?? failure, errorRecord(error)];
      host.log('error', fault.message);
      record.update({ error: { ...first, message: `${first.message}; then: ${fault.message}`, remedy: fault.remedy } });
    }
  };
  await attempt(async () => {
    const ofThisBoot = earlier?.bootId === record.state.bootId ? earlier : undefined;
    const location = await locateStorage(host, wantedStorage(settings));
    record.update((await healAfterFailure(failure, { host, location, act, earlier: ofThisBoot })) ?? {});
    await serveAgain(ofThisBoot, context);
    // A store that stays open is checked, even if a failed step has ended its check.
    addNotices({ record }, await startCheck(host, act));
  });
  await attempt(async () => await removeDeadMirrors({ host, act }));
}

function wantedStorage({ graphroot, runroot }: RunOptions['settings']): Partial<StorageLocation> {
  return { ...(graphroot && { graphroot }), ...(runroot && { runroot }) };
}

/** Images that the run did not reach are skipped, for the reason that ended the run. */
function givenUp(image: ImageState, error: ErrorRecord): ImageState {
  return image.state === 'pending' || image.state === 'loading' ? { ...image, state: 'skipped', reason: error.message, error } : image;
}

/** A dry run changes nothing, so it takes no lock. */
async function lockFor(host: Host, { settings, act, isDry }: RunOptions): Promise<AsyncDisposable> {
  if (isDry) return { [Symbol.asyncDispose]: async () => undefined };
  const request = { waitSeconds: settings.lockWaitSeconds, command: `run --stage ${settings.stage}` };
  return await act('take-lock', async () => await takeRunLock(host, request));
}

async function initialState(host: Host, settings: RunOptions['settings'], found: Awaited<ReturnType<typeof readState>>): Promise<RunState> {
  const bootId = await readBootId();
  if (found === 'damaged') host.log('warning', LOST_RECORD);
  const earlier = found === 'damaged' ? undefined : found;
  return {
    apiVersion: STATE_VERSION,
    kind: 'RunState',
    agentVersion: version,
    bootId,
    ...(host.root !== '/' && { root: host.root }),
    pid: process.pid,
    processStartTicks: (await processStartTicks(process.pid)) ?? 0,
    startedAt: host.clock.now().toISOString(),
    timeline: newTimeline,
    stage: settings.stage,
    policy: settings.policy,
    phase: 'starting',
    bytes: { total: 0, done: 0 },
    notices: found === 'damaged' ? [LOST_RECORD] : [],
    images: [],
    unsynced: earlier?.bootId === bootId ? earlier.unsynced : [],
    suspect: [...suspectAfter(earlier, bootId)],
  };
}

/** Runs the action with the directory of the bundle: the directory that is set, or the partition, which is held as a lease meanwhile. */
async function withSource<T>(context: RunContext, action: (directory: string) => Promise<T>): Promise<T> {
  const { host, settings, record, act } = context;
  if (settings.bundle !== undefined) {
    record.update({ source: { kind: 'directory', path: settings.bundle } });
    return await action(settings.bundle);
  }
  const target = hostPath(host, context.isDry ? `${PARTITION_TARGET}-${process.pid}` : PARTITION_TARGET);
  await act('reclaim-mount', async () => await unmount(host, target));
  record.update({ source: { kind: 'partition', label: settings.label } });
  beginPhase(context, 'waiting-for-partition', `looking for the partition "${settings.label}"`);
  const kept = await keptBundle(host, settings.bundleSha256);
  const waitSeconds = kept === undefined ? settings.deviceWaitSeconds : 0;
  const opening = openPartition(host, { label: settings.label, waitSeconds, target }, act, context.stop);
  await using partition = await opening.catch((error: unknown) => {
    if (kept === undefined || !(error instanceof PrestageError) || error.code !== 'ERR_PARTITION_MISSING') throw error;
    return undefined;
  });
  if (partition === undefined) {
    record.update({ source: { kind: 'disk', label: settings.label, ...(kept !== undefined && { path: kept }) } });
    return await action(kept ?? '');
  }
  record.update({ source: { kind: 'partition', label: settings.label, device: partition.device, fileSystem: partition.fileSystem } });
  return await action(partition.path);
}

async function reconcile(directory: string, context: RunContext): Promise<Planned> {
  const { host, settings, record, isDry } = context;
  if (!isDry) await clearAfterKilledRun(context);
  beginPhase(context, 'reading-bundle', 'reading the bundle');
  const bundle = await readStageBundle({
    directory,
    stage: context.stage,
    architecture: host.architecture,
    pinnedSha256: settings.bundleSha256,
  });
  if (bundle.architecture !== undefined) record.update({ architecture: bundle.architecture });
  checkArchitecture(bundle, host);
  const location = await locateStorage(host, wantedStorage(settings));
  record.update({ storage: { graphroot: location.graphroot, runroot: location.runroot } });
  record.describeImages((images) => withBundleFacts(images, bundle.images ?? []));
  return await deliverBundle(bundle, location, context);
}
