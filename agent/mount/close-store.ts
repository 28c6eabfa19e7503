import { existsSync } from 'node:fs';
import { quote } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import type { ReleaseStep } from '../host/release-step.ts';
import type { Step } from '../host/steps.ts';
import { PrestageError } from '../model/errors.ts';
import { DATA_PATH, RAM_PATH, STORE_PATH, STORE_RECORD } from '../model/places.ts';
import { STAGES, type Stage } from '../model/stage.ts';
import { verityCloseArgs, verityDevice } from './mount-argv.ts';
import { mountImage } from './mount-image.ts';
import { backingFileOf, mountsAt } from './mounted.ts';
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
 * Closes the store, whole or half-done: afterwards the empty one stands at STORE_PATH. A copy on the disk stays.
 * @throws PrestageError ERR_STORE_BUSY where something uses it and it is not forced: it stays open
 */
export async function closeStore(host: Host, { step, force }: CloseForce & { readonly step: Step }): Promise<void> {
  for (const part of await closingSteps(host, { force })) await step(part.name, part.run);
}

/** What there is to close, in order. Only looks. */
export async function closingSteps(host: Host, { force }: CloseForce): Promise<readonly ReleaseStep[]> {
  const unmounting = async (name: ReleaseStep['name'], absolute: string, text: string): Promise<readonly ReleaseStep[]> => {
    const path = hostPath(host, absolute);
    if ((await mountsAt(path)).length === 0) return [];
    return [{ name, text: `${text} ${path}`, run: async () => await unmount(host, { absolute, force }) }];
  };
  const record = hostPath(host, STORE_RECORD);
  return [
    ...(await closingMount(host, force)),
    ...STAGES.filter((stage) => existsSync(hostPath(host, verityDevice(stage)))).map((stage) => closingVerity(host, stage, force)),
    ...(await unmounting('unmount-data', DATA_PATH, 'unmount the directory of the bundle at')),
    ...(await unmounting('unmount-ram', RAM_PATH, 'give back the memory of the store image at')),
    ...(existsSync(record)
      ? [{ name: 'forget-store' as const, text: `remove ${record}`, run: async () => await removeStoreRecord(host) }]
      : []),
  ];
}

async function unmount(host: Host, { absolute, force }: CloseForce & { readonly absolute: string }): Promise<void> {
  const path = hostPath(host, absolute);
  await unmountAll(host, path, { isForced: force });
  await removeMountPoint(path);
}

async function closingMount(host: Host, isForced: boolean): Promise<readonly ReleaseStep[]> {
  const path = hostPath(host, STORE_PATH);
  const source = (await mountsAt(path)).at(-1)?.source;
  if (source === undefined) return [];
  const run = async (): Promise<void> => {
    const image = await backingFileOf(source);
    await unmountAll(host, path, { isForced });
    if (!isForced && image !== undefined && (await staysAttached(host, source, image)))
      throw await backAgain(host, source, 'its loop device stays in use');
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

/** What is in use stays open, as it was. */
async function backAgain(host: Host, source: string, reason: string): Promise<PrestageError> {
  await mountImage(host, { source, isFile: false });
  return new PrestageError(
    'ERR_STORE_BUSY',
    `the store at ${hostPath(host, STORE_PATH)} (${source}) is used by containers: ${reason}`,
    'Stop the containers that run from its images (podman ps, crictl ps), then start again; or reboot',
  );
}

/** Where it is forced, a device that something still uses goes with its last user. */
function closingVerity(host: Host, stage: Stage, isForced: boolean): ReleaseStep {
  const device = verityDevice(stage);
  const run = async (): Promise<void> => {
    const closed = await host.exec('veritysetup', verityCloseArgs(stage, { isDeferred: isForced }));
    if (closed.exitCode !== 0 && existsSync(hostPath(host, device))) throw await backAgain(host, device, quote(closed.stderr));
  };
  return { name: 'close-verity', text: `close the dm-verity device ${device}`, run };
}
