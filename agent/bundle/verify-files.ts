import { lstat, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import pLimit from 'p-limit';
import { type ArchivePool, createArchivePool } from '../extract/pool.ts';
import { isRealDirectory } from '../host/files.ts';
import { BUNDLE_FILE, type BundleFile, type StorePieces } from '../model/bundle.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';

/** A fault of one file of a bundle. */
export interface BundleFault extends ErrorRecord {
  /** Relative to the top of the bundle, as in its manifest. */
  readonly path: string;
}

/** `quick`: checks for a regular file of the right size with no symbolic link on the way to it. `full`: hashes every byte, too. */
export type VerifyMode = 'quick' | 'full';

export interface VerifyFilesOptions {
  /** Number of threads that hash. */
  readonly parallel: number;
  readonly mode: VerifyMode;
  /** Called several times a second with the number of bytes hashed so far; never in mode `quick`. */
  readonly onProgress?: ((bytesRead: number) => void) | undefined;
  /** Aborts the work at once; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Further check of a file that matches the manifest, in mode `full`: called right after hashing, while the file is in the page cache. */
  readonly inspect?: ((file: BundleFile) => Promise<readonly BundleFault[]>) | undefined;
  /** Hashes of pieces that files must have, too, by path; compared in mode `full`. */
  readonly pieces?: ReadonlyMap<string, StorePieces> | undefined;
  /** Threads of the caller to use instead of new ones; `parallel` of them. */
  readonly pool?: Hasher | undefined;
}

/** Number of simultaneous stats: enough to keep a disk busy, well below the limit of open files. */
const PARALLEL_STATS = 32;

/**
 * Compares the files of a bundle with its manifest. Nothing is written.
 * @param directory top directory of the bundle
 * @returns the faults in the order of `files`, at most one for each file, plus those of `inspect`; empty if there are none
 * @throws the signal's reason; PrestageError ERR_ARCHIVE_WORKER if a thread dies
 */
export async function verifyFiles(
  directory: string,
  files: readonly BundleFile[],
  options: VerifyFilesOptions,
): Promise<readonly BundleFault[]> {
  const quick = await quickFaults(directory, files, options.signal);
  if (options.mode === 'quick') return files.flatMap((file) => quick.get(file.path) ?? []);
  const sound = files.filter((file) => !quick.has(file.path));
  const hashed = await hashFaults(directory, sound, options);
  return files.flatMap((file) => quick.get(file.path) ?? hashed.get(file.path) ?? []);
}

/** Unlisted files: sorted paths relative to the top of the bundle. A directory without any listed file is named once, with a `/` at its end. */
export async function unlistedFiles(directory: string, files: readonly BundleFile[]): Promise<readonly string[]> {
  const listed = new Set([BUNDLE_FILE, ...files.map((file) => file.path)]);
  const parents = new Set(files.flatMap((file) => parentsOf(file.path)));
  const walk = async (below: string): Promise<readonly string[]> => {
    const entries = await readdir(join(directory, below), { withFileTypes: true });
    const found = await Promise.all(
      entries.map(async (entry) => {
        const path = below === '' ? entry.name : `${below}/${entry.name}`;
        if (entry.isDirectory()) return parents.has(path) ? await walk(path) : [`${path}/`];
        return listed.has(path) ? [] : [path];
      }),
    );
    return found.flat();
  };
  return (await walk('')).toSorted();
}

async function quickFaults(
  directory: string,
  files: readonly BundleFile[],
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<string, BundleFault>> {
  const limit = pLimit(PARALLEL_STATS);
  const parents = [...new Set(files.flatMap((file) => parentsOf(file.path)))];
  const refusedParents = new Set(
    (await Promise.all(parents.map((path) => limit(async () => ((await isRealDirectory(join(directory, path))) ? [] : [path]))))).flat(),
  );
  const faults = await Promise.all(
    files.map((file) =>
      limit(async (): Promise<readonly (readonly [string, BundleFault])[]> => {
        signal?.throwIfAborted();
        const refused = parentsOf(file.path).find((path) => refusedParents.has(path));
        const what =
          refused === undefined ? await quickFault(directory, file) : `is missing: ${join(directory, refused)} is not a directory`;
        return what === undefined ? [] : [[file.path, fileFault(directory, file, what)]];
      }),
    ),
  );
  return new Map(faults.flat());
}

async function quickFault(directory: string, file: BundleFile): Promise<string | undefined> {
  const found = await lstat(join(directory, file.path)).catch((error: NodeJS.ErrnoException) =>
    error.code === 'ENOENT' ? 'is missing' : `cannot be read: ${reasonOf(error)}`,
  );
  if (typeof found === 'string') return found;
  if (!found.isFile())
    return `is ${found.isSymbolicLink() ? 'a symbolic link' : 'not a regular file'}, but the manifest lists a regular file`;
  return found.size === file.sizeBytes ? undefined : `has ${found.size} bytes, but the manifest says ${file.sizeBytes}`;
}

/** Hashes the biggest files first, so that at the end no single thread is left with a big file. */
async function hashFaults(
  directory: string,
  files: readonly BundleFile[],
  options: VerifyFilesOptions,
): Promise<ReadonlyMap<string, readonly BundleFault[]>> {
  if (files.length === 0) return new Map();
  await using pool = options.pool === undefined ? createArchivePool({ size: options.parallel, log: ignore }) : lent(options.pool);
  const read = new Map<string, number>();
  let readBytes = 0;
  const note = (file: BundleFile, bytes: number): void => {
    readBytes += bytes - (read.get(file.path) ?? 0);
    read.set(file.path, bytes);
    options.onProgress?.(readBytes);
  };
  const order = files.toSorted((a, b) => b.sizeBytes - a.sizeBytes);
  const limit = pLimit(options.parallel);
  const faults = await Promise.all(
    order.map((file) =>
      limit(async () => {
        options.signal?.throwIfAborted();
        const fault = await hashFault(directory, file, pool, { ...options, onProgress: (bytes) => note(file, bytes) });
        return [file.path, fault === undefined ? ((await options.inspect?.(file)) ?? []) : [fault]] as const;
      }),
    ),
  );
  return new Map(faults);
}

type Hasher = Pick<ArchivePool, 'hash'>;

async function hashFault(directory: string, file: BundleFile, pool: Hasher, options: VerifyFilesOptions): Promise<BundleFault | undefined> {
  const { signal, onProgress } = options;
  const pieces = options.pieces?.get(file.path);
  const job = { path: join(directory, file.path), pieceBytes: pieces?.sizeBytes };
  try {
    const found = await pool.hash(job, { ...(signal && { signal }), ...(onProgress && { onProgress }) });
    onProgress?.(file.sizeBytes);
    if (found.sha256 !== file.sha256 || found.sizeBytes !== file.sizeBytes) {
      return fileFault(directory, file, `has the sha256 ${found.sha256}, but the manifest says ${file.sha256}`);
    }
    return pieces === undefined ? undefined : pieceFault(directory, file, { wanted: pieces, found: found.pieces ?? [] });
  } catch (error) {
    if (error instanceof PrestageError && error.code === 'ERR_BUNDLE_FILE') return { path: file.path, ...errorRecord(error) };
    throw error;
  }
}

/** The file as a whole matches the manifest. Finds the first piece that does not. */
function pieceFault(
  directory: string,
  file: BundleFile,
  { wanted, found }: { readonly wanted: StorePieces; readonly found: readonly string[] },
): BundleFault | undefined {
  const index = found.findIndex((sha256, at) => sha256 !== wanted.sha256[at]);
  if (index < 0) return undefined;
  const error = new PrestageError(
    'ERR_BUNDLE_FILE',
    `${join(directory, file.path)}: piece ${index + 1} of ${found.length} has the sha256 ${found[index]}, but the manifest says ${wanted.sha256[index]}`,
    'Build the bundle again at the factory',
  );
  return { path: file.path, ...errorRecord(error) };
}

function fileFault(directory: string, file: BundleFile, what: string): BundleFault {
  const error = new PrestageError(
    'ERR_BUNDLE_FILE',
    `${join(directory, file.path)} ${what}`,
    'Write the bundle again from the factory; if it fails again, replace the disk',
  );
  return { path: file.path, ...errorRecord(error) };
}

/** Threads of the caller: disposing does not end them. */
function lent(pool: Hasher): Hasher & AsyncDisposable {
  return { hash: pool.hash, [Symbol.asyncDispose]: async () => undefined };
}

function ignore(): void {}

/** The parent directories of a path, outermost first, without the top. */
function parentsOf(path: string): readonly string[] {
  const parent = dirname(path);
  return parent === '.' ? [] : [...parentsOf(parent), parent];
}
