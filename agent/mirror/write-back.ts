import type { Host } from '../host/host.ts';

/** Has what was written go to the disk while more is written. Disposing of it waits for what is going on; it is no promise that all is there. */
export interface WriteBack extends AsyncDisposable {
  /** Tells how much has been written by now. */
  readonly wrote: (bytes: number) => void;
}

/**
 * Bytes that may wait. The kernel lets much more wait before it writes by itself, and all of that would be left for the end: 461 MB of archives
 * on two cores, until all was on the disk, took 1.3 to 1.6 s without this and 1.0 to 1.2 s with it.
 */
const WAITING_BYTES = 64 * 2 ** 20;

export function createWriteBack(host: Host, directory: string): WriteBack {
  let syncedBytes = 0;
  let running: Promise<void> | undefined;
  const sync = async (): Promise<void> => {
    // Where it fails, the sync at the end fails, too, and says why.
    await host.exec('sync', ['--file-system', directory]).catch(() => undefined);
    running = undefined;
  };
  return {
    wrote: (bytes) => {
      if (running !== undefined || bytes - syncedBytes < WAITING_BYTES) return;
      syncedBytes = bytes;
      running = sync();
    },
    [Symbol.asyncDispose]: async () => {
      await running;
    },
  };
}
