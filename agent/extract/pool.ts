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
  /** Ends the job, and its thread, at once. The promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Bytes of the archive that have been read; at most five times a second. */
  readonly onProgress?: (bytesRead: number) => void;
}

/** Reads archives in threads, so that the main one stays responsive and all cores are used. Jobs wait until a thread is free. */
export interface ArchivePool extends AsyncDisposable {
  /** Starts so many threads, as far as the pool has them, so that they are there when the first job comes. */
  start(threads: number): void;
  /** What surveyArchive gives. Rejects with its errors, and ERR_ARCHIVE_WORKER where the thread ended unexpectedly. */
  survey(job: SurveyJob, options?: JobOptions): Promise<Survey>;
  /** What unpackArchive gives, with its errors. When it rejects, for whatever reason, the caller deletes `job.to`. */
  unpack(job: UnpackJob, options?: JobOptions): Promise<Unpacked>;
  /** What hashFile gives, with its errors; of any file. */
  hash(job: HashJob, options?: JobOptions): Promise<HashedFile>;
  /** What copyPieces gives, with its errors. */
  copyPieces(job: PiecesJob, options?: JobOptions): Promise<CopiedPieces>;
  /** What fillTree gives, with its errors. */
  fill(job: FillJob, options?: JobOptions): Promise<Filled>;
}

export interface ArchivePoolOptions {
  /** Threads at most. They start when they are needed. */
  readonly size: number;
  /** Told once where zlib-sync cannot be loaded. */
  readonly log: Log;
}

/** Starts a pool; disposing of it ends the threads and what they are doing. */
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
      throw mixedUp(result.kind);
    },
    unpack: async (job, jobOptions) => {
      const result = await run({ kind: 'unpack', job }, jobOptions);
      if (result.kind === 'unpacked') return result.unpacked;
      throw mixedUp(result.kind);
    },
    hash: async (job, jobOptions) => {
      const result = await run({ kind: 'hash', job }, jobOptions);
      if (result.kind === 'hashed') return result.hashed;
      throw mixedUp(result.kind);
    },
    copyPieces: async (job, jobOptions) => {
      const result = await run({ kind: 'copy-pieces', job }, jobOptions);
      if (result.kind === 'copied-pieces') return result.copied;
      throw mixedUp(result.kind);
    },
    fill: async (job, jobOptions) => {
      const result = await run({ kind: 'fill', job }, jobOptions);
      if (result.kind === 'filled') return result.filled;
      throw mixedUp(result.kind);
    },
    [Symbol.asyncDispose]: async () => {
      closing.abort(new PrestageError('ERR_INTERRUPTED', 'the archive was given up because the run ends', 'Start the run again'));
      await Promise.all([...all].map((thread) => thread.end()));
    },
  };
}

/** Runs the work when its turn has come. While it waits, the signal rejects at once; afterwards the work itself sees to that. */
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

function once<T>(act: (value: T) => void): (value: T) => void {
  let done = false;
  return (value) => {
    if (!done) act(value);
    done = true;
  };
}

function mixedUp(kind: string): PrestageError {
  return new PrestageError(
    'ERR_INTERNAL',
    `a thread answered with "${kind}" to another question`,
    'Run prestage-agent report and attach the archive to a bug report',
  );
}

function ignore(): void {}
