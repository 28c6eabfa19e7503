import { existsSync } from 'node:fs';
import { quote } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import type { ReleaseStep } from '../host/release-step.ts';
import type { Step } from '../host/steps.ts';
import { PrestageError } from '../model/errors.ts';
import { DATA_PATH, RAM_PATH, STORE_PATH, STORE_RECORD } from '../model/places.ts';
import { STAGES, type Stage } from '../model/stage.ts';
import { verityCloseArgs, verityDevice } from './mount-argv.ts';
import { mountsAt } from './mounted.ts';
import { removeStoreRecord } from './store-record.ts';
import { removeMountPoint, unmountAll } from './unmount.ts';

/** What is in use is unmounted lazily where it is forced: it is out of sight at once, and ends with its last user. */
export interface CloseForce {
  readonly force: boolean;
}

/**
 * Closes the store, whole or half-done: afterwards the empty one stands at STORE_PATH. A copy on the disk stays.
 * @throws PrestageError ERR_STORE_BUSY where something uses it and it is not forced; what was closed before that stays closed
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
    ...(await unmounting('unmount-store', STORE_PATH, 'unmount the store at')),
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
  // The empty store below STORE_PATH has to stay.
  if (absolute !== STORE_PATH) await removeMountPoint(path);
}

/** Where it is forced, a device that something still uses goes with its last user. */
function closingVerity(host: Host, stage: Stage, isForced: boolean): ReleaseStep {
  const args = verityCloseArgs(stage, { isDeferred: isForced });
  return {
    name: 'close-verity',
    text: `close the dm-verity device ${verityDevice(stage)}`,
    run: async () => {
      const closed = await host.exec('veritysetup', args);
      if (closed.exitCode === 0 || !existsSync(hostPath(host, verityDevice(stage)))) return;
      throw new PrestageError(
        'ERR_STORE_BUSY',
        `${verityDevice(stage)} does not close: ${quote(closed.stderr)}`,
        `Stop what uses it, then start again; look at: dmsetup info ${verityDevice(stage)}`,
      );
    },
  };
}
