import { getPriority, setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { errorRecord } from '../model/errors.ts';
import { copyPieces } from './copy-pieces.ts';
import { fillTree } from './fill-tree.ts';
import { hashFile } from './hash-file.ts';
import { loadInflater } from './raw-inflate.ts';
import { type JobContext, surveyArchive } from './survey-archive.ts';
import { unpackArchive } from './unpack-archive.ts';
import type { WorkerReply, WorkerRequest, WorkerResult } from './worker-messages.ts';

/** Entry of the thread that reads archives and hashes files. It may block on the disk; to abort a job, the main thread ends it. */

/** Nice value of the threads. */
const LOW_PRIORITY = 10;

/** Minimum time between two reports of progress. */
const PROGRESS_INTERVAL_MS = 200;

// On Linux each thread has its own priority (setpriority(2), "C library/kernel differences"). skopeo writes layers one after the other under a lock
// of the storage, which is the longest chain of a load, and unpacking ahead must not slow it down.
// A process started with lower priority, such as the check of a mounted store, keeps it: raising it needs a capability (setpriority(2), EACCES).
const usualPriority = getPriority();
const lowPriority = Math.max(LOW_PRIORITY, usualPriority);
setPriority(lowPriority);

const inflater = loadInflater();
const reply = (message: WorkerReply): void => parentPort?.postMessage(message);

reply({ kind: 'inflater', uses: inflater.uses });
parentPort?.on('message', (request: WorkerRequest) => {
  void perform(request).then(reply);
});

async function perform(request: WorkerRequest): Promise<WorkerResult> {
  const context: JobContext = { inflater, onRead: throttledProgress() };
  try {
    switch (request.kind) {
      case 'survey':
        return { kind: 'surveyed', survey: await surveyArchive(request.job, context) };
      case 'unpack':
        return { kind: 'unpacked', unpacked: await unpackArchive(request.job, context) };
      case 'hash':
        return { kind: 'hashed', hashed: hashFile(request.job, throttledProgress()) };
      case 'copy-pieces':
        return { kind: 'copied-pieces', copied: atUsualPriority(() => copyPieces(request.job, throttledProgress())) };
      case 'fill':
        return { kind: 'filled', filled: fillTree(request.job, throttledProgress()) };
    }
  } catch (error) {
    return { kind: 'failed', error: errorRecord(error) };
  }
}

/** For work that the boot waits for, while the agent does nothing else. */
function atUsualPriority<T>(work: () => T): T {
  tryPriority(usualPriority);
  try {
    return work();
  } finally {
    tryPriority(lowPriority);
  }
}

/** Raising the priority again needs CAP_SYS_NICE: setpriority(2), EACCES. */
function tryPriority(nice: number): void {
  try {
    setPriority(nice);
  } catch {
    // The thread keeps its priority and takes longer.
  }
}

function throttledProgress(): (bytesRead: number) => void {
  let reportedMs = performance.now();
  return (bytesRead) => {
    if (performance.now() - reportedMs < PROGRESS_INTERVAL_MS) return;
    reportedMs = performance.now();
    reply({ kind: 'progress', bytesRead });
  };
}
