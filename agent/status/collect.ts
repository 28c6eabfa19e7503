import { additionalStores } from '../extract/additional-stores.ts';
import { inspectStorage, readImages } from '../extract/storage.ts';
import { processStartTicks, readBootId } from '../host/boot.ts';
import type { Host } from '../host/host.ts';
import { errorRecord } from '../model/errors.ts';
import type { RunState } from '../model/run-state.ts';
import { readOpenStore } from '../mount/store-record.ts';
import { readLastState } from '../reconcile/state-store.ts';
import { registryHealth } from '../registry/service.ts';
import { assessRun, type StatusReport, type StorageView } from './assess.ts';

/**
 * Looks at the last run and at storage as it is now. Reads only: works while a run goes on, after it, after a crash, and without root as far
 * as files can be read.
 */
export async function collectStatus(host: Host): Promise<StatusReport> {
  const bootId = await readBootId();
  const found = await readLastState(host, bootId);
  const state = found === 'damaged' ? undefined : found;
  const isAlive = state !== undefined && state.bootId === bootId && (await isSameProcess(state));
  return assessRun({
    state,
    isDamaged: found === 'damaged',
    isAlive,
    isSameBoot: state?.bootId === bootId,
    storage: await viewStorage(host, state),
    registry: state?.registry === undefined ? undefined : await registryHealth(host, state.registry.address),
    verified: (await readOpenStore(host))?.verified,
  });
}

/** pid and start time together name a process: a reused pid is another one. */
async function isSameProcess(state: RunState): Promise<boolean> {
  return (await processStartTicks(state.pid)) === state.processStartTicks;
}

/** Storage, together with what is mounted beside it. */
async function viewStorage(host: Host, state: RunState | undefined): Promise<StorageView> {
  if (state?.storage === undefined) return { kind: 'unknown', reason: 'no run has come as far as storage' };
  try {
    const stores = await additionalStores(host);
    const contents = await inspectStorage(state.storage, stores);
    const beside = await Promise.all(stores.map(async (graphroot) => await readImages({ graphroot, runroot: graphroot })));
    return { kind: 'seen', contents: { ...contents, images: [...contents.images, ...beside.flat()] } };
  } catch (error) {
    return { kind: 'unknown', reason: errorRecord(error).message };
  }
}
