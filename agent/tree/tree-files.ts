import { join } from 'node:path';
import { outputFile } from 'fs-extra/esm';
import { layoutBlobPath } from '../extract/oci-layout.ts';
import { placeFile } from '../host/place.ts';
import type { Digest } from '../model/digest.ts';

/** A file to be written into a tree: a text, or a blob. Its path is relative to the top of the tree. */
export type TreeFile = { readonly path: string } & ({ readonly text: string } | { readonly blob: Digest });

/**
 * Writes a tree. Blobs are linked, not copied, if the file system can do that.
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
