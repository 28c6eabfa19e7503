import { join } from 'node:path';
import { outputFile } from 'fs-extra/esm';
import { layoutBlobPath } from '../extract/oci-layout.ts';
import { placeFile } from '../host/place.ts';
import type { Digest } from '../model/digest.ts';

/** A file of a tree that is to be written, by its path below the tree's top: text of its own, or the bytes of a blob. */
export type TreeFile = { readonly path: string } & ({ readonly text: string } | { readonly blob: Digest });

/**
 * Writes a tree; blobs are placed, not copied, where the file system can.
 * @param layout the OCI image layout that has the blobs
 */
export async function writeTree(files: readonly TreeFile[], options: { readonly layout: string; readonly to: string }): Promise<void> {
  for (const file of files) {
    const path = join(options.to, file.path);
    if ('blob' in file) {
      await placeFile(layoutBlobPath(options.layout, file.blob), path);
      continue;
    }
    await outputFile(path, file.text);
  }
}
