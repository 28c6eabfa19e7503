import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, mkdirSync, openSync, readSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate as othersTurn } from 'node:timers/promises';
import { type BundleFile, isInnerPath } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';

export interface SealedFiles {
  /** A metadata tree or a registry tree in a bundle, the directory that holds `docker`; an absolute path. */
  readonly from: string;
  /** Its files as prestage.json has them, with paths below `from`. */
  readonly files: readonly BundleFile[];
  readonly signal: AbortSignal;
  /** Called for a file that is not as listed, which is then left out. If there is no such function, the copy fails at that file. */
  readonly onFault?: (fault: PrestageError) => void;
}

/** Largest manifest or config, in bytes: distribution takes manifests of 4 MiB at most; configs are smaller. */
const FILE_LIMIT_BYTES = 16 * 1024 * 1024;
/** Largest mirror, or links and manifests of a tree, in bytes. With the 4000 images of a whole operator catalog they take a tenth of it. */
const TREE_LIMIT_BYTES = 512 * 1024 * 1024;
/** Files between two turns of the event loop: 1000 files take 40 ms, but 150 ms with one promise for each. */
const SLICE_FILES = 64;

/**
 * Copies the files of a mirror or tree that prestage.json lists, and nothing else. If one is not a plain file with the listed size and sha256, the copy
 * fails or continues without it. No link is followed. Nothing is synced.
 * @param to a new, empty directory
 * @param noRoom makes the error for a file that cannot be written
 * @throws PrestageError ERR_BUNDLE_FILE; the error that `noRoom` makes; the signal's reason
 */
export async function copySealedFiles(
  to: string,
  { from, files, signal, onFault }: SealedFiles,
  noRoom: (path: string, cause: unknown) => PrestageError,
): Promise<void> {
  const links = knownLinks(files);
  const made = new Set<string>();
  const piece = Buffer.allocUnsafe(Math.max(0, ...files.map((file) => file.sizeBytes)) + 1);
  for (const [index, file] of files.entries()) {
    if (index % SLICE_FILES === 0) {
      await othersTurn();
      signal.throwIfAborted();
    }
    const bytes = links.get(file.sha256) ?? readSealed(join(from, file.path), file, piece);
    if (bytes instanceof PrestageError) {
      if (onFault === undefined) throw bytes;
      onFault(bytes);
      continue;
    }
    const path = join(to, file.path);
    try {
      place(path, bytes, made);
    } catch (cause) {
      throw noRoom(path, cause);
    }
  }
}

/**
 * The links of the tree by their sha256. Their text is the digest of one of its blobs, so they need not be read, and half of the files are links.
 * Source: distribution, registry/storage/paths.go.
 */
function knownLinks(files: readonly BundleFile[]): ReadonlyMap<string, string> {
  const blobs = files.flatMap(
    ({ path }) => /^docker\/registry\/v2\/blobs\/sha256\/[0-9a-f]{2}\/([0-9a-f]{64})\/data$/.exec(path)?.[1] ?? [],
  );
  return new Map(blobs.map((hex) => [sha256Of(`sha256:${hex}`), `sha256:${hex}`]));
}

/** The bytes of a file if they match the manifest, otherwise the fault. Reads no more than the listed size and one byte. */
function readSealed(path: string, { sizeBytes, sha256 }: BundleFile, piece: Buffer): Buffer | PrestageError {
  let got: string;
  try {
    const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      if (!fstatSync(file).isFile()) throw new Error('it is not a plain file');
      const bytes = piece.subarray(0, readWhole(file, piece.subarray(0, sizeBytes + 1)));
      const hash = sha256Of(bytes);
      if (bytes.length === sizeBytes && hash === sha256) return bytes;
      got = bytes.length > sizeBytes ? `it is larger than ${sizeBytes} bytes` : `it has ${bytes.length} bytes and the sha256 ${hash}`;
    } finally {
      closeSync(file);
    }
  } catch (error) {
    got = reasonOf(error);
  }
  return new PrestageError(
    'ERR_BUNDLE_FILE',
    `${path} does not match prestage.json, which lists ${sizeBytes} bytes with the sha256 ${sha256}: ${got}`,
    'Write the bundle to the partition again; if it fails again, replace the disk',
  );
}

function readWhole(file: number, into: Buffer): number {
  let length = 0;
  for (;;) {
    const read = readSync(file, into, length, into.length - length, null);
    length += read;
    if (read === 0 || length === into.length) return length;
  }
}

function place(path: string, bytes: Uint8Array | string, made: Set<string>): void {
  const directory = dirname(path);
  if (!made.has(directory)) mkdirSync(directory, { recursive: true, mode: 0o755 });
  made.add(directory);
  writeFileSync(path, bytes, { flag: 'wx', mode: 0o644 });
}

/**
 * Refuses files that are too large to be kept in memory, or lead out of the tree, before anything is written.
 * @throws PrestageError ERR_BUNDLE_FILE
 */
export function checkLimits({ from, files }: Pick<SealedFiles, 'from' | 'files'>): void {
  const wrong = files.find((file) => !isInnerPath(file.path) || file.sizeBytes > FILE_LIMIT_BYTES);
  const totalBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  if (wrong === undefined && totalBytes <= TREE_LIMIT_BYTES) return;
  const what = wrong === undefined ? `${files.length} files with ${totalBytes} bytes` : `"${wrong.path}" with ${wrong.sizeBytes} bytes`;
  throw new PrestageError(
    'ERR_BUNDLE_FILE',
    `${from} cannot be kept in memory: it has ${what}, but links, manifests and configs may have at most ${FILE_LIMIT_BYTES} each and ${TREE_LIMIT_BYTES} together`,
    'Build the bundle again',
  );
}

function sha256Of(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}
