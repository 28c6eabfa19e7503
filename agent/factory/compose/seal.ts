import { lstat, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { layoutBlobPath } from '../../extract/oci-layout.ts';
import type { ArchivePool } from '../../extract/pool.ts';
import { syncDirectory, writeAtomic } from '../../host/atomic.ts';
import { BUNDLE_FILE, type Bundle, formatBundle, PARTIAL_FILE } from '../../model/bundle.ts';
import { digestOf, hexOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import type { RecordedFile } from './record.ts';

/** A blob's path in an OCI image layout or in a registry's tree: its digits are the sha256 that it must have. */
const BLOB = /(?:^|\/)(?:blobs|signatures)\/sha256\/(?:[0-9a-f]{2}\/)?([0-9a-f]{64})(?:\/data)?$/;

export interface HashOptions {
  readonly pool: ArchivePool;
  /** The OCI image layout that blobs came from, for messages. */
  readonly layout: string;
  /** Path of a file, relative to the bundle, whose pieces are hashed, too. */
  readonly inPieces?: string | undefined;
  readonly signal: AbortSignal;
}

/**
 * Size of the pieces of a store image. A node's two threads read neighbouring pieces, so the smaller the pieces, the more the disk sees one
 * continuous reader. 840 MB opened in memory on 2 cores, caches dropped, the machine busy, best and median of 7 in ms: 1 MiB 596, 695, 2 MiB
 * 605, 698, 4 MiB 628, 704, 8 MiB 663, 738, 16 MiB 827, 886; cp(1) alone 414, 446,
 * hashed as a whole 600, 1012. 4 MiB make 0.3 MB of manifest for an image of 16 GiB, 1 MiB make 1.2 MB.
 */
const PIECE_BYTES = 4 * 1024 * 1024;

/**
 * Hashes the files below some paths of a bundle, in threads, and checks every blob against the digest in its name.
 * @param paths files or folders, relative to the bundle
 * @throws PrestageError ERR_LAYOUT_BLOB
 */
export async function hashPart(output: string, paths: readonly string[], options: HashOptions): Promise<readonly RecordedFile[]> {
  const { pool, layout, inPieces, signal } = options;
  const files = (await Promise.all(paths.map(async (path) => await filesBelow(output, path)))).flat().toSorted();
  return await Promise.all(
    files.map(async (path): Promise<RecordedFile> => {
      const before = await lstat(join(output, path));
      const pieceBytes = path === inPieces ? PIECE_BYTES : undefined;
      const { sha256, sizeBytes, pieces } = await pool.hash({ path: join(output, path), pieceBytes }, { signal });
      const named = BLOB.exec(path)?.[1];
      if (named !== undefined && named !== sha256) {
        throw new PrestageError(
          'ERR_LAYOUT_BLOB',
          `${layoutBlobPath(layout, `sha256:${named}`)} has the digest sha256:${sha256}`,
          'Pull the images again (complete blobs are kept), then build again',
        );
      }
      const recorded = { path, sizeBytes, modifiedMs: before.mtimeMs, sha256 };
      return pieces === undefined ? recorded : { ...recorded, pieces: { sizeBytes: PIECE_BYTES, sha256: [...pieces] } };
    }),
  );
}

async function filesBelow(output: string, path: string): Promise<readonly string[]> {
  const found = await lstat(join(output, path));
  if (!found.isDirectory()) return [path];
  const names = await readdir(join(output, path));
  return (await Promise.all(names.map(async (name) => await filesBelow(output, `${path}/${name}`)))).flat();
}

/** Marks the bundle on the disk as incomplete, before anything in it changes. */
export async function markPartial(output: string): Promise<void> {
  await writeAtomic(join(output, PARTIAL_FILE), 'This bundle is being built. If no build is running, run the command again.\n');
}

/**
 * Seals a bundle whose files are on the disk: the manifest replaces the mark of a partial bundle and an earlier manifest in one rename.
 * @returns the manifest as a file
 */
export async function seal(output: string, bundle: Bundle): Promise<RecordedFile> {
  const text = formatBundle(bundle);
  await writeAtomic(join(output, PARTIAL_FILE), text);
  await rename(join(output, PARTIAL_FILE), join(output, BUNDLE_FILE));
  await syncDirectory(output);
  const { size, mtimeMs } = await lstat(join(output, BUNDLE_FILE));
  return { path: BUNDLE_FILE, sizeBytes: size, modifiedMs: mtimeMs, sha256: hexOf(digestOf(text)) };
}
