import { existsSync } from 'node:fs';
import { quote } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import type { ReleaseStep } from '../host/release-step.ts';
import { plainStep, type Step } from '../host/steps.ts';
import { messageOf, PrestageError } from '../model/errors.ts';
import { DATA_PATH, RAM_PATH, STORE_PATH, STORE_RECORD } from '../model/places.ts';
import { STAGES, type Stage } from '../model/stage.ts';
import { endCheck, readRunningCheck } from './check-process.ts';
import { verityCloseArgs, verityDeferredCloses, verityDevice } from './mount-argv.ts';
import { backingFileOf, mountsAt } from './mounted.ts';
import { putBack, storeBefore } from './put-back.ts';
import { removeStoreRecord } from './store-record.ts';
import { removeMountPoint, unmountAll } from './unmount.ts';

/** A loop device lets go of its file soon after its last user: so often, this long apart, it is looked at. */
const DETACH_LOOKS = 25;
const DETACH_PAUSE_MS = 20;

/** What is in use is unmounted lazily where it is forced: it is out of sight at once, and ends with its last user. */
export interface CloseForce {
  readonly force: boolean;
}

/**
 * Closes the store, whole or half-done: afterwards the empty one stands at STORE_PATH. A copy on the disk stays. A check of the store is ended
 * first. If a step fails and closing is not forced, the store is put back as it was.
 * @throws PrestageError ERR_STORE_BUSY if a step fails and closing is not forced: the store of before is open. After any other error no store is
 * open, unless closing was forced
 */
export async function closeStore(host: Host, { step, force }: CloseForce & { readonly step: Step }): Promise<void> {
  for (const part of await closingSteps(host, { force })) await step(part.name, part.run);
}

/**
 * What there is to close, in order; each step needs the one before, and puts the store back if it fails. The mount that the store needs goes last:
 * what fails before it can be put back, and behind it nothing is left to fail. Only looks.
 */
export async function closingSteps(host: Host, { force }: CloseForce): Promise<readonly ReleaseStep[]> {
  const before = await storeBefore(host);
  const isInMemory = before.record?.placement === 'ram';
  const mounts = [
    ...(await closingPlace(host, { name: 'unmount-data', absolute: DATA_PATH, what: 'unmount the directory of the bundle at', force })),
    ...(await closingPlace(host, { name: 'unmount-ram', absolute: RAM_PATH, what: 'give back the memory of the store image at', force })),
  ];
  const closing = [
    ...closingMount(host, before.source, force),
    ...STAGES.filter((stage) => existsSync(hostPath(host, verityDevice(stage)))).map((stage) => closingVerity(host, stage, force)),
    ...forgetting(host),
    ...(isInMemory ? mounts : mounts.toReversed()),
  ];
  if (closing.length === 0) return [];
  const steps = [...(await endingCheck(host)), ...closing];
  if (force) return steps.map((step) => ({ ...step, run: async () => await withoutCheck(host, step.run) }));
  return steps.map((step) => ({
    ...step,
    run: async () => {
      try {
        await withoutCheck(host, step.run);
      } catch (failure) {
        const error = await putBack(host, before, failure);
        if (error.code !== 'ERR_STORE_BUSY') await closeRest(host);
        throw error;
      }
    },
  }));
}

/** Nobody sees the store any more that is closed here: what fails is told, and the first failure is the one that counts. */
async function closeRest(host: Host): Promise<void> {
  try {
    await closeStore(host, { step: plainStep, force: true });
  } catch (error) {
    host.log('warning', messageOf(error));
  }
}

/** A check that begins after the look is ended as well. */
async function withoutCheck(host: Host, run: () => Promise<void>): Promise<void> {
  await using _place = await endCheck(host);
  await run();
}

async function endingCheck(host: Host): Promise<readonly ReleaseStep[]> {
  const check = await readRunningCheck(host);
  if (check === undefined) return [];
  return [{ name: 'end-check', text: `end the check of the store image (process ${check.pid})`, run: async () => {} }];
}

interface Place extends CloseForce {
  readonly name: ReleaseStep['name'];
  readonly absolute: string;
  readonly what: string;
}

async function closingPlace(host: Host, { name, absolute, what, force }: Place): Promise<readonly ReleaseStep[]> {
  const path = hostPath(host, absolute);
  if ((await mountsAt(path)).length === 0) return [];
  const run = async (): Promise<void> => {
    await unmountAll(host, path, { isForced: force });
    await removeMountPoint(path);
  };
  return [{ name, text: `${what} ${path}`, run }];
}

function closingMount(host: Host, source: string | undefined, isForced: boolean): readonly ReleaseStep[] {
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

/** Containers keep the file system by overlays of their own, which the mount point knows nothing of: then the loop device stays. */
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
    'Stop the containers that run from its images (podman ps and crictl ps list them), then give the command again, or reboot',
  );
}

/** If it is forced, a device that something still uses goes with its last user: first it is closed plainly, which every cryptsetup can. */
function closingVerity(host: Host, stage: Stage, isForced: boolean): ReleaseStep {
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
    // What is mounted is gone, and that is what counts.
    host.log('warning', `${device} does not close: ${reasons.join('; ')}`);
  };
  return { name: 'close-verity', text: `close the dm-verity device ${device}`, run };
}

/** Why a program did not do it, or is not there; undefined if it did. */
async function failureOf(host: Host, file: string, args: readonly string[]): Promise<string | undefined> {
  try {
    const { exitCode, stderr } = await host.exec(file, args);
    return exitCode === 0 ? undefined : quote(stderr);
  } catch (error) {
    return messageOf(error);
  }
}

function forgetting(host: Host): readonly ReleaseStep[] {
  const record = hostPath(host, STORE_RECORD);
  if (!existsSync(record)) return [];
  return [{ name: 'forget-store', text: `remove ${record}`, run: async () => await removeStoreRecord(host) }];
}
