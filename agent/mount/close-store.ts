import { existsSync } from 'node:fs';
import { type Act, plainAct } from '../host/acts.ts';
import { quote } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import type { UndoStep } from '../host/undo-step.ts';
import { messageOf, PrestageError } from '../model/errors.ts';
import { DATA_PATH, RAM_PATH, STORE_PATH, STORE_RECORD } from '../model/places.ts';
import { STAGES, type Stage } from '../model/stage.ts';
import { endCheck, readRunningCheck } from './check-process.ts';
import { verityCloseArgs, verityDeferredCloses, verityDevice } from './mount-argv.ts';
import { backingFileOf, mountsAt } from './mounted.ts';
import { putBack, storeBefore } from './put-back.ts';
import { removeStoreRecord } from './store-record.ts';
import { removeMountPoint, unmountAll } from './unmount.ts';

/** A loop device releases its file soon after its last user has ended: how often this is checked, and the pause between two checks. */
const DETACH_LOOKS = 25;
const DETACH_PAUSE_MS = 20;

/** With force, a mount that is in use is unmounted lazily: it disappears at once, and is released with its last user. */
export interface CloseForce {
  readonly force: boolean;
}

/**
 * Closes the store, even one that is open only in part: afterwards the empty store is at STORE_PATH. A copy on the disk is kept. A check of the store
 * is ended first. If a step fails and closing is not forced, the store is put back as it was.
 * @throws PrestageError ERR_STORE_BUSY if a step fails and closing is not forced: the store is open as before. After any other error no store is
 * open, unless closing was forced
 */
export async function closeStore(host: Host, { act, force }: CloseForce & { readonly act: Act }): Promise<void> {
  for (const part of await closingSteps(host, { force })) await act(part.name, part.run);
}

/**
 * The steps that close the store, in order; each needs the one before, and puts the store back if it fails. The mount that the store needs comes last:
 * after a failure before it the store can be put back, and after it nothing is left to fail. Changes nothing itself.
 */
export async function closingSteps(host: Host, { force }: CloseForce): Promise<readonly UndoStep[]> {
  const before = await storeBefore(host);
  const isInMemory = before.record?.placement === 'ram';
  const mounts = [
    ...(await closingPlace(host, { name: 'unmount-data', absolute: DATA_PATH, what: 'unmount the directory of the bundle at', force })),
    ...(await closingPlace(host, { name: 'unmount-ram', absolute: RAM_PATH, what: 'free the memory of the store image at', force })),
  ];
  const closing = [
    ...closingMount(host, before.source, force),
    ...STAGES.filter((stage) => existsSync(hostPath(host, verityDevice(stage)))).map((stage) => closingVerity(host, stage, force)),
    ...forgetting(host),
    ...(isInMemory ? mounts : mounts.toReversed()),
  ];
  if (closing.length === 0) return [];
  const steps = [...(await endingCheck(host)), ...closing];
  if (force) return steps.map((act) => ({ ...act, run: async () => await withoutCheck(host, act.run) }));
  return steps.map((act) => ({
    ...act,
    run: async () => {
      try {
        await withoutCheck(host, act.run);
      } catch (failure) {
        const error = await putBack(host, before, failure);
        if (error.code !== 'ERR_STORE_BUSY') await closeRest(host);
        throw error;
      }
    },
  }));
}

/** Closes what remains of a store that no engine sees any more. Further failures are only logged: the first one is reported. */
async function closeRest(host: Host): Promise<void> {
  try {
    await closeStore(host, { act: plainAct, force: true });
  } catch (error) {
    host.log('warning', messageOf(error));
  }
}

/** Also ends a check that has started since the steps were planned. */
async function withoutCheck(host: Host, run: () => Promise<void>): Promise<void> {
  await using _place = await endCheck(host);
  await run();
}

async function endingCheck(host: Host): Promise<readonly UndoStep[]> {
  const check = await readRunningCheck(host);
  if (check === undefined) return [];
  return [{ name: 'end-check', text: `end the check of the store image (process ${check.pid})`, run: async () => {} }];
}

interface Place extends CloseForce {
  readonly name: UndoStep['name'];
  readonly absolute: string;
  readonly what: string;
}

async function closingPlace(host: Host, { name, absolute, what, force }: Place): Promise<readonly UndoStep[]> {
  const path = hostPath(host, absolute);
  if ((await mountsAt(path)).length === 0) return [];
  const run = async (): Promise<void> => {
    await unmountAll(host, path, { isForced: force });
    await removeMountPoint(path);
  };
  return [{ name, text: `${what} ${path}`, run }];
}

function closingMount(host: Host, source: string | undefined, isForced: boolean): readonly UndoStep[] {
  if (source === undefined) return [];
  const path = hostPath(host, STORE_PATH);
  const run = async (): Promise<void> => {
    const image = await backingFileOf(source);
    await unmountAll(host, path, { isForced });
    if (!isForced && image !== undefined && (await staysAttached(host, source, image)))
      throw usedByContainers(host, source, 'its loop device stays in use');
  };
  return [{ name: 'unmount-store', text: `unmount the store at ${path}`, run }];
}

/** Containers can use the file system through overlays of their own, even after it is unmounted: then the loop device stays. */
async function staysAttached(host: Host, source: string, image: string): Promise<boolean> {
  for (let look = 0; look < DETACH_LOOKS; look++) {
    if ((await backingFileOf(source)) !== image) return false;
    await host.clock.sleep(DETACH_PAUSE_MS);
  }
  return true;
}

function usedByContainers(host: Host, source: string, reason: string): PrestageError {
  return new PrestageError(
    'ERR_STORE_BUSY',
    `the store at ${hostPath(host, STORE_PATH)} (${source}) cannot be closed, because containers use it: ${reason}`,
    'Stop the containers that run from its images (podman ps and crictl ps list them), then run the command again, or reboot',
  );
}

/** Closes the device plainly first, which every cryptsetup can. With force, a device that is still in use is removed with its last user. */
function closingVerity(host: Host, stage: Stage, isForced: boolean): UndoStep {
  const device = verityDevice(stage);
  const isGone = (): boolean => !existsSync(hostPath(host, device));
  const run = async (): Promise<void> => {
    const closed = await host.exec('veritysetup', verityCloseArgs(stage));
    if (closed.exitCode === 0 || isGone()) return;
    if (!isForced) throw usedByContainers(host, device, quote(closed.stderr));
    const reasons = [quote(closed.stderr)];
    for (const { file, args } of verityDeferredCloses(stage)) {
      const reason = await failureOf(host, file, args);
      if (reason === undefined || isGone()) return;
      reasons.push(reason);
    }
    // The store is unmounted, which is enough.
    host.log('warning', `${device} cannot be closed: ${reasons.join('; ')}`);
  };
  return { name: 'close-verity', text: `close the dm-verity device ${device}`, run };
}

/** Why a program failed, or could not be started; undefined if it succeeded. */
async function failureOf(host: Host, file: string, args: readonly string[]): Promise<string | undefined> {
  try {
    const { exitCode, stderr } = await host.exec(file, args);
    return exitCode === 0 ? undefined : quote(stderr);
  } catch (error) {
    return messageOf(error);
  }
}

function forgetting(host: Host): readonly UndoStep[] {
  const record = hostPath(host, STORE_RECORD);
  if (!existsSync(record)) return [];
  return [{ name: 'forget-store', text: `remove ${record}`, run: async () => await removeStoreRecord(host) }];
}
