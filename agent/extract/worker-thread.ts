import { Worker } from 'node:worker_threads';
import { workerEntry } from '../assets.ts';
import { PrestageError } from '../model/errors.ts';
import type { WorkerReply, WorkerRequest, WorkerResult } from './worker-messages.ts';

/** One thread that reads archives, one job at a time. */
export interface WorkerThread {
  /**
   * Rejects with the signal's reason if the signal fires, and with ERR_ARCHIVE_WORKER if the thread ends by itself. In both cases the thread has ended.
   * Once the promise has settled, the thread writes nothing more.
   */
  perform(request: WorkerRequest, signal: AbortSignal, onProgress: (bytesRead: number) => void): Promise<WorkerResult>;
  end(): Promise<void>;
}

export interface WorkerThreadOptions {
  /** Called with the reason if the thread has no addon. */
  readonly onFallback: (reason: string) => void;
  /** Called when the thread has ended, for whatever reason. */
  readonly onEnd: () => void;
}

/** Heap for the parsed manifests of an archive. If a thread needs more, it ends and its job fails; a well-formed archive needs 10 MiB. */
const HEAP_LIMIT_MIB = 32;
/**
 * Inflated bytes are garbage as soon as they are hashed, and V8 collects them when they are a multiple of this. Peak memory of the process
 * with three threads at work on 200 MB archives: 1 MiB 146, 2 MiB 142, 3 MiB 149, 4 MiB 172, 8 MiB 205 MiB (idle 85), at equal speed.
 */
const YOUNG_LIMIT_MIB = 2;

/** Starts a thread. */
export function createWorkerThread(options: WorkerThreadOptions): WorkerThread {
  const worker = startWorker();
  worker.on('message', (reply: WorkerReply) => {
    if (reply.kind === 'inflater' && reply.uses.kind === 'node') options.onFallback(reply.uses.reason);
  });
  let death: string | undefined;
  worker.on('error', (error: Error) => {
    death = error.message;
  });
  worker.once('exit', (code) => {
    death ??= `exit code ${code}`;
    options.onEnd();
  });
  const end = async (): Promise<void> => {
    await worker.terminate();
  };
  return {
    end,
    perform: async (request, signal, onProgress) => {
      const { promise, resolve, reject } = Promise.withResolvers<WorkerResult>();
      const onReply = (reply: WorkerReply): void => {
        if (reply.kind === 'progress') onProgress(reply.bytesRead);
        else if (reply.kind !== 'inflater') resolve(reply);
      };
      const onExit = (): void => reject(signal.aborted ? signal.reason : crashError(request, death ?? 'unknown reason'));
      const onAbort = (): void => void end();
      worker.on('message', onReply).once('exit', onExit);
      signal.addEventListener('abort', onAbort, { once: true });
      worker.postMessage(request);
      try {
        return await promise;
      } finally {
        worker.off('message', onReply).off('exit', onExit);
        signal.removeEventListener('abort', onAbort);
      }
    },
  };
}

function startWorker(): Worker {
  const entry = workerEntry();
  const resourceLimits = { maxOldGenerationSizeMb: HEAP_LIMIT_MIB, maxYoungGenerationSizeMb: YOUNG_LIMIT_MIB };
  return entry.kind === 'file' ? new Worker(entry.url, { resourceLimits }) : new Worker(entry.code, { eval: true, resourceLimits });
}

function crashError(request: WorkerRequest, reason: string): PrestageError {
  return new PrestageError(
    'ERR_ARCHIVE_WORKER',
    `${request.job.path}: the thread that was reading it ended unexpectedly: ${reason}`,
    'Start the run again; if it fails again, write the archive again at the factory',
  );
}
