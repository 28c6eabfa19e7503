import { join } from 'node:path';
import { outputFile } from 'fs-extra/esm';
import { signaturePath } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { readSignatureFile, type SignedImage } from '../signatures/bundle-signatures.ts';

export interface KeepSignatures {
  /** Directories of bundles. */
  readonly from: string;
  readonly to: string;
  /** Makes the error for a file that cannot be written. */
  readonly noRoom: (path: string, cause: unknown) => PrestageError;
}

/**
 * Copies the GPG signatures of images, for which a tree has no place. Skips damaged ones: they are reported when the images are served.
 * @throws the error that `noRoom` makes
 */
export async function keepSignatures({ from, to, noRoom }: KeepSignatures, images: readonly SignedImage[]): Promise<void> {
  const gpg = images.flatMap(({ signatures = [] }) => signatures.flatMap((one) => (one.kind === 'gpg' ? [one.file] : [])));
  for (const file of new Set(gpg)) {
    const bytes = await readSignatureFile(from, file).catch((error: unknown) => {
      if (error instanceof PrestageError) return undefined;
      throw error;
    });
    if (bytes === undefined) continue;
    const path = join(to, signaturePath(file));
    await outputFile(path, bytes).catch((cause: unknown) => {
      throw noRoom(path, cause);
    });
  }
}
