import { inspectStorage } from '../extract/storage.ts';
import { processStartTicks, readBootId } from '../host/boot.ts';
import type { Host } from '../host/host.ts';
import { errorRecord } from '../model/errors.ts';
import type { RunState } from '../model/run-state.ts';
import { readLastState } from '../reconcile/state-store.ts';
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
    storage: await viewStorage(state),
    registry: undefined,
    verified: undefined,
  });
}

/** pid and start time together name a process: a reused pid is another one. */
async function isSameProcess(state: RunState): Promise<boolean> {
  return (await processStartTicks(state.pid)) === state.processStartTicks;
}

async function viewStorage(state: RunState | undefined): Promise<StorageView> {
  if (state?.storage === undefined) return { kind: 'unknown', reason: 'no run has come as far as storage' };
  try {
    return { kind: 'seen', contents: await inspectStorage(state.storage) };
  } catch (error) {
    return { kind: 'unknown', reason: errorRecord(error).message };
  }
}
