import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { readManifest, type SealedBundle } from '../bundle/read-bundle.ts';
import { verifyFiles } from '../bundle/verify-files.ts';
import { spaceAt } from '../host/space.ts';
import { PrestageError } from '../model/errors.ts';
import { listFaults } from '../model/faults.ts';
import { obstaclesAt, temporaryPath } from './inner-files.ts';
import { readNote } from './partial-note.ts';
import type { PartitionSurvey } from './plan-write.ts';

export interface SurveyOptions {
  /** Number of threads that hash existing files. */
  readonly parallel: number;
  readonly onProgress: (bytes: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Compares the content of a mounted partition with a bundle. Files at the paths of the bundle are hashed; nothing is written.
 * @throws PrestageError ERR_PARTITION_WRITE if links, mounts or directories are in the way
 */
export async function surveyPartition(top: string, sealed: SealedBundle, options: SurveyOptions): Promise<PartitionSurvey> {
  const { files } = sealed.bundle;
  const paths = files.map((file) => file.path);
  const obstacles = await obstaclesAt(top, paths);
  if (obstacles.length > 0) {
    throw new PrestageError(
      'ERR_PARTITION_WRITE',
      listFaults(`${top} has obstacles at paths of the bundle`, obstacles),
      'Remove them, or create the partition again: prestage-agent partition create DEVICE --replace',
    );
  }
  const note = await readNote(top);
  const there = await manifestAt(top);
  const faults = await verifyFiles(top, files, { ...options, mode: 'full' });
  const unsound = new Set(faults.map((fault) => fault.path));
  const earlier = uniquePaths([...(note ?? []), ...(there?.bundle.files ?? [])]);
  const leftovers = note === undefined ? [] : [...earlier.map((file) => file.path), ...paths].map(temporaryPath);
  const space = await spaceAt(top);
  return {
    isPartial: note !== undefined,
    isSameManifest: there?.sha256 === sealed.sha256,
    release: there?.bundle.release,
    earlier,
    sound: new Set(paths.filter((path) => !unsound.has(path))),
    unsound: await sizesOf(top, [...unsound]),
    leftovers: await sizesOf(top, leftovers),
    freeBytes: space.freeBytes,
    sizeBytes: space.sizeBytes,
  };
}

/** A manifest that cannot be parsed counts as missing: its files are then unknown and are kept. */
async function manifestAt(top: string): Promise<SealedBundle | undefined> {
  try {
    return await readManifest(top);
  } catch (error) {
    if (error instanceof PrestageError && error.code === 'ERR_BUNDLE') return undefined;
    throw error;
  }
}

function uniquePaths<T extends { readonly path: string }>(files: readonly T[]): readonly T[] {
  return [...new Map(files.map((file) => [file.path, file])).values()];
}

/** Sizes of the paths that exist, as links or files. */
async function sizesOf(top: string, paths: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const sizes = await Promise.all(
    paths.map(async (path): Promise<readonly (readonly [string, number])[]> => {
      const found = await lstat(join(top, path)).catch(() => undefined);
      return found === undefined ? [] : [[path, found.size]];
    }),
  );
  return new Map(sizes.flat());
}
