import { readFile, rm } from 'node:fs/promises';
import * as v from 'valibot';
import { writeAtomic } from '../host/atomic.ts';
import { processStartTicks, readBootId } from '../host/boot.ts';
import { type Host, hostPath } from '../host/host.ts';
import { takeLock } from '../host/lock.ts';
import { hasSystemd } from '../host/systemd.ts';
import { PrestageError } from '../model/errors.ts';
import { CHECK_LOCK, CHECK_RECORD } from '../model/places.ts';
import { sealRecord, unsealRecord } from '../model/seal.ts';
import { type CheckTarget, findCheckTarget } from './check-target.ts';

/** Unit of the check that runs while the boot continues. */
export const CHECK_UNIT = 'prestage-check.service';
/** systemd kills the unit 10 s after SIGTERM, by its TimeoutStopSec. */
export const CHECK_STOP_SECONDS = 10;
const SYSTEMCTL_LIMIT_MS = 30_000;
/** How long to wait for the end of a check after SIGTERM, and again after SIGKILL. Usually it ends within 100 ms. */
const END_LIMIT_SECONDS = 5;

const recordSchema = v.object({
  bootId: v.string(),
  pid: v.number(),
  /** With the pid it names one process. */
  startTicks: v.number(),
  /** CheckTarget.identity; left out if no store was open. */
  target: v.optional(v.string()),
});

/** A running check, as recorded in CHECK_RECORD. */
export type RunningCheck = Readonly<v.InferOutput<typeof recordSchema>>;

/** The check lock, which only one check can hold. While it is held, nobody closes the store without ending the check first. */
export interface CheckLease extends AsyncDisposable {
  readonly target: CheckTarget | undefined;
}

/**
 * Takes the check lock, looks at the open store, and records the check and the store, so that others can end the check.
 * @throws PrestageError ERR_LOCKED if another check runs for longer than the wait; the signal's reason
 */
export async function beginCheck(host: Host, options: { readonly waitSeconds: number; readonly signal: AbortSignal }): Promise<CheckLease> {
  await using stack = new AsyncDisposableStack();
  stack.use(await takeLock({ ...options, path: hostPath(host, CHECK_LOCK), command: 'check-store' }));
  const record = hostPath(host, CHECK_RECORD);
  stack.defer(async () => await rm(record, { force: true }));
  const target = await findCheckTarget(host);
  const { pid } = process;
  const [bootId, startTicks] = await Promise.all([readBootId(), processStartTicks(pid)]);
  const running: RunningCheck = { bootId, pid, startTicks: startTicks ?? 0, ...(target && { target: target.identity }) };
  await writeAtomic(record, sealRecord(running));
  const held = stack.move();
  return { target, [Symbol.asyncDispose]: async () => await held.disposeAsync() };
}

/** The running check; undefined if there is none. */
export async function readRunningCheck(host: Host): Promise<RunningCheck | undefined> {
  const text = await readFile(hostPath(host, CHECK_RECORD), 'utf8').catch(() => undefined);
  const parsed = v.safeParse(recordSchema, text === undefined ? undefined : unsealRecord(text));
  if (!parsed.success || parsed.output.bootId !== (await readBootId())) return undefined;
  const { pid, startTicks } = parsed.output;
  return (await processStartTicks(pid)) === startTicks ? parsed.output : undefined;
}

/**
 * Ends the running check, and keeps another one from starting until the lease is released: a check holds the image file open, and with it the
 * partition or the memory. The caller must hold the run lock: a check that heals holds it too, so this never ends a healing.
 * @throws PrestageError ERR_STORE_BUSY if the check does not end
 */
export async function endCheck(host: Host): Promise<AsyncDisposable> {
  const free = await takePlace(host, 0);
  if (free !== undefined) return free;
  // The unit has more than one process, and systemd ends them together.
  if (hasSystemd(host)) await host.exec('systemctl', ['stop', CHECK_UNIT], { timeoutMs: SYSTEMCTL_LIMIT_MS });
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    // A check that has just begun is recorded a moment later.
    for (let second = 0; second < END_LIMIT_SECONDS; second++) {
      await sendTo(host, signal);
      const place = await takePlace(host, 1);
      if (place !== undefined) return place;
    }
  }
  const who = (await readRunningCheck(host))?.pid;
  throw new PrestageError(
    'ERR_STORE_BUSY',
    `the check of the store image${who === undefined ? '' : ` (process ${who})`} does not stop`,
    `Find the process with: fuser -v ${hostPath(host, CHECK_LOCK)}; if it hangs in a read, check the disk of the store image`,
  );
}

/** The check lock, if it becomes free in time. */
async function takePlace(host: Host, waitSeconds: number): Promise<AsyncDisposable | undefined> {
  try {
    return await takeLock({ path: hostPath(host, CHECK_LOCK), waitSeconds, command: 'closing the store' });
  } catch (error) {
    if (error instanceof PrestageError && error.code === 'ERR_LOCKED') return undefined;
    throw error;
  }
}

async function sendTo(host: Host, signal: NodeJS.Signals): Promise<void> {
  const running = await readRunningCheck(host);
  if (running === undefined || running.pid === process.pid) return;
  try {
    process.kill(running.pid, signal);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
