import { existsSync } from 'node:fs';
import { type Host, hostPath } from '../host/host.ts';
import { removeTree } from '../host/remove-tree.ts';
import type { UndoStep } from '../host/undo-step.ts';
import { DISK_COPY_PATH, LOOKASIDE_PATH, MIRROR_PATH, STORE_PATH } from '../model/places.ts';
import { type CloseForce, closingSteps } from './close-store.ts';

/**
 * The steps that undo an opened store, in order: mounts, devices and the record; then copies, the metadata tree, signatures and the empty store.
 * Changes nothing itself. When the last step runs, the engines must no longer use STORE_PATH.
 */
export async function storeUndoSteps(host: Host, { force }: CloseForce = { force: false }): Promise<readonly UndoStep[]> {
  return [
    ...(await closingSteps(host, { force })),
    ...removing(host, { name: 'remove-store-copies', absolute: DISK_COPY_PATH, what: 'store images on the disk' }),
    ...removing(host, { name: 'remove-mirror', absolute: MIRROR_PATH, what: 'metadata tree' }),
    ...removing(host, { name: 'remove-mirror', absolute: LOOKASIDE_PATH, what: 'copied signatures' }),
    ...removing(host, { name: 'remove-empty-store', absolute: STORE_PATH, what: 'empty store' }),
  ];
}

interface Removal {
  readonly name: UndoStep['name'];
  readonly absolute: string;
  readonly what: string;
}

function removing(host: Host, { name, absolute, what }: Removal): readonly UndoStep[] {
  const path = hostPath(host, absolute);
  if (!existsSync(path)) return [];
  return [{ name, text: `remove the ${what} ${path}`, run: async () => await removeTree(path) }];
}
