import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import type { BundleFile } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { treeBlobPath } from '../model/registry-path.ts';

/** A registry tree in a bundle that has complete operating systems; its files have paths below it. */
export interface OsTree {
  /** Absolute. */
  readonly path: string;
  readonly files: readonly BundleFile[];
}

/**
 * Files up to this size, in bytes, are copied into memory with the mirror; larger files are layers, which are not copied. It is distribution's limit for
 * a manifest, and signatures are not larger either.
 */
const IN_MEMORY_BYTES = 4 * 1024 * 1024;

/** The files of such a tree that are copied, and those that are linked. Pure. */
export function splitOsTree(files: readonly BundleFile[]): {
  readonly small: readonly BundleFile[];
  readonly large: readonly BundleFile[];
} {
  return {
    small: files.filter(({ sizeBytes }) => sizeBytes <= IN_MEMORY_BYTES),
    large: files.filter(({ sizeBytes }) => sizeBytes > IN_MEMORY_BYTES),
  };
}

/**
 * Why the layers of a tree cannot be served: one is missing, is not a plain file, or has another size or place than its bundle says. Their bytes
 * are checked by the engines that pull them. An engine would take the manifest of an incomplete image, and fail at the missing layer.
 */
export async function osTreeFault({ path, files }: OsTree): Promise<PrestageError | undefined> {
  for (const file of splitOsTree(files).large) {
    const found = await lstat(join(path, file.path)).catch(() => undefined);
    const isRight = found?.isFile() === true && found.size === file.sizeBytes && file.path === treeBlobPath(`sha256:${file.sha256}`);
    if (isRight) continue;
    const got = found === undefined ? 'it is missing' : found.isFile() ? `it has ${found.size} bytes` : 'it is not a plain file';
    return new PrestageError(
      'ERR_BUNDLE_FILE',
      `${join(path, file.path)} is not the layer of an operating system that prestage.json lists, ${file.sizeBytes} bytes: ${got}`,
      'Write the bundle to the partition again; if it fails again, replace the disk',
    );
  }
  return undefined;
}
