import type { Act } from '../host/acts.ts';
import { readBootId } from '../host/boot.ts';
import type { Host } from '../host/host.ts';
import { checkOwnPlaces } from '../host/own-places.ts';
import { takeRunLock } from '../host/run-lock.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import type { RunState } from '../model/run-state.ts';
import { beginCheck } from '../mount/check-process.ts';
import { dropDamagedCopy, hashStore, isStillOpen, recordIntact } from '../mount/check-store.ts';
import { findCheckTarget } from '../mount/check-target.ts';
import { createRunRecord, readLastState } from '../state/run-record.ts';
import { locateStorage } from '../storage/location.ts';
import { heal } from './heal.ts';

/** How long a check waits for another check, and then, if it found damage, for a run in progress. */
const LOCK_WAIT_SECONDS = 600;

/** What a check of the mounted store has found. */
export type CheckReport = { readonly kind: 'none' | 'intact' } | { readonly kind: 'damaged'; readonly error: ErrorRecord };

interface CheckOptions {
  readonly act: Act;
  readonly signal: AbortSignal;
}

/**
 * Hashes the mounted store image. If its bytes are wrong, the node is healed as by a run. The state records this twice: before the healing
 * begins, so that the next check can continue an interrupted one, and when it is complete. If another store was opened in the meantime, the
 * result is discarded and that store is checked.
 * @throws PrestageError ERR_LOCKED, ERR_PLACE, ERR_STORE_BUSY; the signal's reason
 */
export async function checkMountedStore(host: Host, options: CheckOptions): Promise<CheckReport> {
  await checkOwnPlaces(host);
  for (;;) {
    if ((await findCheckTarget(host)) === undefined && unhealedDamage(await stateOfThisBoot(host)) === undefined) return { kind: 'none' };
    const report = await checkOnce(host, options);
    if (report.kind !== 'exchanged') return report;
    host.log('info', 'the store was replaced while its image was being hashed; the check starts again');
  }
}

async function checkOnce(host: Host, { act, signal }: CheckOptions): Promise<CheckReport | { readonly kind: 'exchanged' }> {
  await using stack = new AsyncDisposableStack();
  const place = await act('begin-check', async () => await beginCheck(host, { waitSeconds: LOCK_WAIT_SECONDS, signal }));
  stack.use(place);
  const { target } = place;
  const found = target === undefined ? ({ kind: 'none' } as const) : await hashStore(host, target, signal);
  if (target !== undefined && found.kind === 'intact') {
    // The check lock is held, so no agent closes this store now.
    if (!(await isStillOpen(host, target))) return { kind: 'exchanged' };
    await recordIntact(host, target, act);
    return { kind: 'intact' };
  }
  const lock = { waitSeconds: LOCK_WAIT_SECONDS, command: 'check-store', signal };
  await using _lock = await act('take-lock', async () => await takeRunLock(host, lock));
  // Healing closes the store, and for that it takes the check lock.
  await stack.disposeAsync();
  if (!(await isStillOpen(host, target))) return { kind: 'exchanged' };
  const state = await stateOfThisBoot(host);
  const error = unhealedDamage(state) ?? (found.kind === 'damaged' ? digestError(found.fault) : undefined);
  if (error === undefined) return { kind: 'none' };
  if (state !== undefined) await act('record-damage', async () => await recordDamage(host, state, { error }));
  if (target !== undefined) await dropDamagedCopy(target, act);
  const location = state?.storage ?? (await locateStorage(host, {}));
  const healed = await heal(error, { host, location, act });
  if (state !== undefined) await act('record-damage', async () => await recordDamage(host, state, { error, healed: [...healed] }));
  return { kind: 'damaged', error };
}

async function stateOfThisBoot(host: Host): Promise<RunState | undefined> {
  const bootId = await readBootId();
  const state = await readLastState(host, bootId);
  return state === 'damaged' || state?.bootId !== bootId ? undefined : state;
}

/** The damage found by a check that was interrupted before it had healed the node: the state still names a store. Pure. */
function unhealedDamage(state: RunState | undefined): ErrorRecord | undefined {
  return state?.store !== undefined && state.outcome === 'failed' && state.error?.code === 'ERR_STORE_DIGEST' ? state.error : undefined;
}

/** @param fault continues the name of the image */
function digestError(fault: string): ErrorRecord {
  return errorRecord(
    new PrestageError(
      'ERR_STORE_DIGEST',
      `the mounted store image ${fault}`,
      'Write the bundle to the partition again; the next run mounts the new copy',
    ),
  );
}

/** Once healed, the state names neither store nor registry. */
async function recordDamage(
  host: Host,
  state: RunState,
  found: { readonly error: ErrorRecord; readonly healed?: string[] },
): Promise<void> {
  const { store: _, registry: __, ...rest } = state;
  const record = createRunRecord(host, found.healed === undefined ? state : rest);
  const { error } = found;
  record.update({
    ...found,
    outcome: 'failed',
    images: state.images.map((image) => ({ ...image, state: 'failed', reason: error.message, error })),
  });
  await record.commit();
}
