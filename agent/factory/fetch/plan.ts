import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { verifyFiles } from '../../bundle/verify-files.ts';
import type { Bundle } from '../../model/bundle.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../../model/errors.ts';
import { shown } from '../web/http.ts';
import { headerFault } from './content.ts';
import type { RemoteFile } from './download.ts';
import { isUnchanged, type LocalFacts, readJournal } from './journal.ts';
import { type AskContext, factsOf, type ListedFile } from './listing.ts';

export interface FetchFailure {
  readonly path: string;
  readonly error: ErrorRecord;
}

/** The work of a fetch. */
export interface FetchPlan {
  readonly wanted: readonly RemoteFile[];
  /** Of the wanted files, as far as the server says. */
  readonly wantedBytes: number;
  readonly keptFiles: number;
  readonly keptBytes: number;
  /** Files that are already known to be unavailable. */
  readonly failed: readonly FetchFailure[];
}

/** Which files of a bundle to fetch: all except those that are there with the manifest's size and hash. */
export async function planBundle(
  bundle: Bundle,
  folder: URL,
  target: { readonly directory: string; readonly parallel: number; readonly signal: AbortSignal },
): Promise<FetchPlan> {
  const faults = await verifyFiles(target.directory, bundle.files, { parallel: target.parallel, mode: 'full', signal: target.signal });
  const faulty = new Set(faults.map((fault) => fault.path));
  const wanted = bundle.files.filter((file) => faulty.has(file.path));
  const wantedBytes = sum(wanted.map((file) => file.sizeBytes));
  return {
    wanted: wanted.map(({ path, sizeBytes, sha256 }) => ({
      path,
      url: below(folder, path),
      seal: { sizeBytes, sha256 },
      mode: modeOf(path),
    })),
    wantedBytes,
    keptFiles: bundle.files.length - wanted.length,
    keptBytes: sum(bundle.files.map((file) => file.sizeBytes)) - wantedBytes,
    failed: [],
  };
}

/** Which files of a folder to fetch: all except those of an earlier fetch that are unchanged on the server. */
export async function planFolder(
  files: readonly ListedFile[],
  target: { readonly directory: string; readonly parallel: number },
  context: AskContext,
): Promise<FetchPlan> {
  const journal = await readJournal(target.directory);
  const limit = pLimit(target.parallel);
  const judged = await Promise.all(
    files.map((file) =>
      limit(async () => {
        try {
          const remote = await factsOf(file, context);
          const fault = headerFault(file.path, remote);
          if (fault !== undefined) throw refusedContent(file, fault);
          const record = journal.get(file.path);
          const isKept =
            record?.url === shown(file.url) && isUnchanged(record, await localFacts(join(target.directory, file.path)), remote);
          const sizeBytes = remote.sizeBytes ?? 0;
          return isKept ? ({ kind: 'kept', sizeBytes } as const) : ({ kind: 'wanted', file, sizeBytes } as const);
        } catch (error) {
          context.signal.throwIfAborted();
          return { kind: 'failed', path: file.path, error: errorRecord(error) } as const;
        }
      }),
    ),
  );
  const wanted = judged.filter((one) => one.kind === 'wanted');
  const kept = judged.filter((one) => one.kind === 'kept');
  return {
    wanted: wanted.map(({ file }) => ({ path: file.path, url: file.url, mode: modeOf(file.path) })),
    wantedBytes: sum(wanted.map((one) => one.sizeBytes)),
    keptFiles: kept.length,
    keptBytes: sum(kept.map((one) => one.sizeBytes)),
    failed: judged.flatMap((one) => (one.kind === 'failed' ? [{ path: one.path, error: one.error }] : [])),
  };
}

/** The URL of a path below a folder; keeps user and password. */
export function below(folder: URL, path: string): URL {
  return new URL(`./${path.split('/').map(encodeURIComponent).join('/')}`, folder);
}

/** A web server does not tell who may execute a file; these are the executables of a bundle. */
function modeOf(path: string): number {
  return path === 'prestage-agent' || path.startsWith('bin/') ? 0o755 : 0o644;
}

async function localFacts(path: string): Promise<LocalFacts | undefined> {
  const found = await lstat(path).catch(() => undefined);
  return found?.isFile() ? { sizeBytes: found.size, modifiedMs: found.mtimeMs } : undefined;
}

function refusedContent(file: ListedFile, what: string): PrestageError {
  return new PrestageError(
    'ERR_FETCH_CONTENT',
    `${shown(file.url)} ${what}`,
    'Open the address in a browser: the server sends something else instead of the file',
  );
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
