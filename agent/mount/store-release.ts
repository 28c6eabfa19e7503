import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { type Host, hostPath } from '../host/host.ts';
import { holdsMounts } from '../host/mounts.ts';
import type { ReleaseStep } from '../host/release-step.ts';
import { PrestageError } from '../model/errors.ts';
import { DISK_COPY_PATH, MIRROR_PATH, STORE_PATH } from '../model/places.ts';
import { type CloseForce, closingSteps } from './close-store.ts';
import { canonical } from './mounted.ts';

/**
 * What there is to undo of an opened store, in order: mounts, devices and the record; then copies, the metadata mirror and the empty store.
 * Only looks. The engines must know nothing of STORE_PATH any more when the last step runs.
 */
export async function storeReleaseSteps(host: Host, { force }: CloseForce = { force: false }): Promise<readonly ReleaseStep[]> {
  return [
    ...(await closingSteps(host, { force })),
    ...removing(host, { name: 'remove-store-copies', absolute: DISK_COPY_PATH, what: 'store images on the disk' }),
    ...removing(host, { name: 'remove-mirror', absolute: MIRROR_PATH, what: 'metadata mirror' }),
    ...removing(host, { name: 'remove-empty-store', absolute: STORE_PATH, what: 'empty store' }),
  ];
}

interface Removal {
  readonly name: ReleaseStep['name'];
  readonly absolute: string;
  readonly what: string;
}

function removing(host: Host, { name, absolute, what }: Removal): readonly ReleaseStep[] {
  const path = hostPath(host, absolute);
  if (!existsSync(path)) return [];
  return [{ name, text: `remove the ${what} ${path}`, run: async () => await removeUnmounted(path) }];
}

/** @throws PrestageError ERR_STORE_BUSY where something is mounted there: nothing is deleted through a mount */
async function removeUnmounted(path: string): Promise<void> {
  if (await holdsMounts(await canonical(path))) {
    throw new PrestageError(
      'ERR_STORE_BUSY',
      `${path} cannot be removed, because something is mounted there`,
      `Look at it with: findmnt --submounts ${path}; unmount it, then give the command again`,
    );
  }
  await rm(path, { recursive: true, force: true });
}
