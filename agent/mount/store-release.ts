import { existsSync } from 'node:fs';
import { type Host, hostPath } from '../host/host.ts';
import type { ReleaseStep } from '../host/release-step.ts';
import { removeTree } from '../host/remove-tree.ts';
import { DISK_COPY_PATH, LOOKASIDE_PATH, MIRROR_PATH, STORE_PATH } from '../model/places.ts';
import { type CloseForce, closingSteps } from './close-store.ts';

/**
 * The steps that undo an opened store, in order: mounts, devices and the record; then copies, the metadata mirror, signatures and the empty store.
 * Changes nothing itself. When the last step runs, the engines must no longer use STORE_PATH.
 */
export async function storeReleaseSteps(host: Host, { force }: CloseForce = { force: false }): Promise<readonly ReleaseStep[]> {
  return [
    ...(await closingSteps(host, { force })),
    ...removing(host, { name: 'remove-store-copies', absolute: DISK_COPY_PATH, what: 'store images on the disk' }),
    ...removing(host, { name: 'remove-mirror', absolute: MIRROR_PATH, what: 'metadata mirror' }),
    ...removing(host, { name: 'remove-mirror', absolute: LOOKASIDE_PATH, what: 'copied signatures' }),
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
  return [{ name, text: `remove the ${what} ${path}`, run: async () => await removeTree(path) }];
}
