import { selfCommand } from '../assets.ts';
import { locateStorage } from '../extract/location.ts';
import { readBootId } from '../host/boot.ts';
import { output } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import { takeRunLock } from '../host/run-lock.ts';
import type { Step } from '../host/steps.ts';
import { CAPABILITIES, hasSystemd } from '../host/systemd.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import type { RunState } from '../model/run-state.ts';
import { checkStore, dropDamagedCopy } from '../mount/check-store.ts';
import { heal } from './heal.ts';

import { createStateStore, readLastState } from './state-store.ts';

/** Unit of the check that goes on while the boot does. */
const CHECK_UNIT = 'prestage-check';
/** A run that is at work when the check finds damage is waited for. */
const LOCK_WAIT_SECONDS = 600;

/** What a check of the mounted store has found. */
export type CheckReport = { readonly kind: 'none' | 'intact' } | { readonly kind: 'damaged'; readonly error: ErrorRecord };

/**
 * Starts the check of the mounted store and does not wait for it: as a unit of its own where systemd runs, so that it outlives the unit
 * that starts it (systemd.kill(5)), else as a process of its own.
 */
export async function startCheck(host: Host, step: Step): Promise<void> {
  const command = [...selfCommand(), 'check-store', '--root', host.root];
  const bounds = ['--property=IOSchedulingClass=idle', `--property=CapabilityBoundingSet=${CAPABILITIES}`];
  const unit = ['--unit', CHECK_UNIT, '--collect', '--quiet', '--nice=19', ...bounds];
  await step('start-check', async () => {
    if (hasSystemd(host)) await output(host.exec, 'systemd-run', [...unit, ...command]);
    else
      await output(host.exec, 'setsid', [
        '--fork',
        'nice',
        '-n',
        '19',
        'sh',
        '-c',
        'exec "$@" >/dev/null 2>&1 </dev/null',
        'sh',
        ...command,
      ]);
  });
}

/**
 * Hashes the store image that is mounted. Where its bytes are wrong, the node is healed as a run would do it, and the state says so: before the
 * healing begins, so that a check that is ended in between can be gone on with, and when it is through.
 * @throws PrestageError ERR_LOCKED, ERR_PLACE, ERR_STORE_BUSY
 */
export async function checkMountedStore(host: Host, options: { readonly step: Step; readonly signal: AbortSignal }): Promise<CheckReport> {
  const { step } = options;
  const found = await checkStore(host, options);
  if (found.kind === 'intact') return found;
  if (found.kind === 'none' && unhealedDamage(await stateOfThisBoot(host)) === undefined) return found;
  const lock = { waitSeconds: LOCK_WAIT_SECONDS, command: 'check-store' };
  await using _lock = await step('take-lock', async () => await takeRunLock(host, lock));
  const state = await stateOfThisBoot(host);
  const error = unhealedDamage(state) ?? (found.kind === 'damaged' ? digestError(found.got) : undefined);
  if (error === undefined) return { kind: 'none' };
  if (state !== undefined) await step('record-damage', async () => await recordDamage(host, state, { error }));
  if (found.kind === 'damaged') await dropDamagedCopy(found, step);
  const location = state?.storage ?? (await locateStorage(host, {}));
  const healed = await heal(error, { host, location, step });
  if (state !== undefined) await step('record-damage', async () => await recordDamage(host, state, { error, healed: [...healed] }));
  return { kind: 'damaged', error };
}

async function stateOfThisBoot(host: Host): Promise<RunState | undefined> {
  const bootId = await readBootId();
  const state = await readLastState(host, bootId);
  return state === 'damaged' || state?.bootId !== bootId ? undefined : state;
}

/** What a check has found that was ended before it had healed: the state names a store still. Pure. */
function unhealedDamage(state: RunState | undefined): ErrorRecord | undefined {
  return state?.store !== undefined && state.outcome === 'failed' && state.error?.code === 'ERR_STORE_DIGEST' ? state.error : undefined;
}

function digestError(got: string): ErrorRecord {
  return errorRecord(
    new PrestageError(
      'ERR_STORE_DIGEST',
      `the mounted store image has the sha256 ${got}, not the one that the bundle says`,
      'Write the bundle to the partition again; the next run takes it from there',
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
  const store = createStateStore(host, found.healed === undefined ? state : rest);
  const { error } = found;
  store.update({
    ...found,
    outcome: 'failed',
    images: state.images.map((image) => ({ ...image, state: 'failed', reason: error.message, error })),
  });
  await store.commit();
}
