import pLimit, { type LimitFunction } from 'p-limit';
import type { Log } from '../host/log.ts';
import { PrestageError } from '../model/errors.ts';
import type { CopiedPieces, PiecesJob } from './copy-pieces.ts';
import type { Filled, FillJob } from './fill-tree.ts';
import type { HashedFile, HashJob } from './hash-file.ts';
import type { Survey, SurveyJob } from './survey-archive.ts';
import type { Unpacked, UnpackJob } from './unpack-archive.ts';
import type { WorkerRequest, WorkerResult } from './worker-messages.ts';
import { createWorkerThread, type WorkerThread } from './worker-thread.ts';

export interface JobOptions {
  /** Aborts the job, and ends its thread, at once. The promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Called with the number of bytes read so far, at most five times a second. */
  readonly onProgress?: (bytesRead: number) => void;
}

/** Reads archives in threads, so that the main one stays responsive and all cores are used. Jobs wait until a thread is free. */
export interface ArchivePool extends AsyncDisposable {
  /** Starts threads in advance, up to the size of the pool, so that the first job need not wait for them. */
  start(threads: number): void;
  /** Runs surveyArchive. Rejects with its errors, and with ERR_ARCHIVE_WORKER if the thread ended unexpectedly. */
  survey(job: SurveyJob, options?: JobOptions): Promise<Survey>;
  /** Runs unpackArchive, with its errors. If it rejects, for whatever reason, the caller must delete `job.to`. */
  unpack(job: UnpackJob, options?: JobOptions): Promise<Unpacked>;
  /** Runs hashFile on any file, with its errors. */
  hash(job: HashJob, options?: JobOptions): Promise<HashedFile>;
  /** Runs copyPieces, with its errors. */
  copyPieces(job: PiecesJob, options?: JobOptions): Promise<CopiedPieces>;
  /** Runs fillTree, with its errors. */
  fill(job: FillJob, options?: JobOptions): Promise<Filled>;
}

export interface ArchivePoolOptions {
  /** Maximum number of threads. They start when needed. */
  readonly size: number;
  /** Gets one warning if zlib-sync cannot be loaded. */
  readonly log: Log;
}

/** Starts a pool. Disposing aborts its jobs and ends its threads. */
export function createArchivePool(options: ArchivePoolOptions): ArchivePool {
  const limit = pLimit(options.size);
  const idle: WorkerThread[] = [];
  const all = new Set<WorkerThread>();
  const closing = new AbortController();
  const warnOnce = once((reason: string) => {
    options.log('warning', `zlib-sync cannot be loaded (${reason}); archives are inflated with node:zlib, which is slower`);
  });

  const begin = (): WorkerThread => {
    const thread = createWorkerThread({
      onFallback: warnOnce,
      onEnd: () => {
        all.delete(thread);
        const at = idle.indexOf(thread);
        if (at >= 0) idle.splice(at, 1);
      },
    });
    all.add(thread);
    return thread;
  };
  const perform = async (request: WorkerRequest, signal: AbortSignal, onProgress: (bytesRead: number) => void): Promise<WorkerResult> => {
    const thread = idle.pop() ?? begin();
    const result = await thread.perform(request, signal, onProgress);
    idle.push(thread);
    return result;
  };
  const run = async (request: WorkerRequest, job: JobOptions = {}): Promise<WorkerResult> => {
    const signal = job.signal === undefined ? closing.signal : AbortSignal.any([closing.signal, job.signal]);
    const result = await whenFree(limit, signal, () => perform(request, signal, job.onProgress ?? ignore));
    if (result.kind === 'failed') throw new PrestageError(result.error.code, result.error.message, result.error.remedy);
    return result;
  };
  return {
    start: (threads) => {
      while (all.size < Math.min(threads, options.size)) idle.push(begin());
    },
    survey: async (job, jobOptions) => {
      const result = await run({ kind: 'survey', job }, jobOptions);
      if (result.kind === 'surveyed') return result.survey;
      throw mixedUpError(result.kind);
    },
    unpack: async (job, jobOptions) => {
      const result = await run({ kind: 'unpack', job }, jobOptions);
      if (result.kind === 'unpacked') return result.unpacked;
      throw mixedUpError(result.kind);
    },
    hash: async (job, jobOptions) => {
      const result = await run({ kind: 'hash', job }, jobOptions);
      if (result.kind === 'hashed') return result.hashed;
      throw mixedUpError(result.kind);
    },
    copyPieces: async (job, jobOptions) => {
      const result = await run({ kind: 'copy-pieces', job }, jobOptions);
      if (result.kind === 'copied-pieces') return result.copied;
      throw mixedUpError(result.kind);
    },
    fill: async (job, jobOptions) => {
      const result = await run({ kind: 'fill', job }, jobOptions);
      if (result.kind === 'filled') return result.filled;
      throw mixedUpError(result.kind);
    },
    [Symbol.asyncDispose]: async () => {
      closing.abort(
        new PrestageError('ERR_INTERRUPTED', 'reading the archive was aborted because the run is ending', 'Start the run again'),
      );
      await Promise.all([...all].map((thread) => thread.end()));
    },
  };
}

/** Runs the work when its turn comes. While it waits, the signal rejects at once; after that, the work itself must react to the signal. */
async function whenFree<T>(limit: LimitFunction, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const { promise: given, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  const done = limit(async () => {
    signal.throwIfAborted();
    signal.removeEventListener('abort', onAbort);
    return await work();
  });
  return await Promise.race([done, given]);
}

function once<T>(work: (value: T) => void): (value: T) => void {
  let done = false;
  return (value) => {
    if (!done) work(value);
    done = true;
  };
}

function mixedUpError(kind: string): PrestageError {
  return new PrestageError(
    'ERR_INTERNAL',
    `a thread answered a different request with "${kind}"`,
    'Run prestage-agent report and attach the archive to a bug report',
  );
}

function ignore(): void {}
