import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Machine } from './machine.ts';

/** Looks at what a unit's processes have in memory until it is asked for the most of it, or the machine ends. */
export interface MemoryWatch {
  /** Ends the watch. Bytes; undefined where the unit was never seen running. */
  readonly peakBytes: () => Promise<number | undefined>;
}

/** Short against any run that loads images, and 40 reads of small files a second. */
const INTERVAL_MS = 50;

/**
 * Sums anonymous and shared memory of the processes in a unit's control group, sampled: not every kernel has the memory controller in the
 * unified hierarchy. Pages of files are not counted, they go when memory is short. Source: proc_pid_status(5).
 */
export function watchMemory(machine: Machine, unit: string): MemoryWatch {
  const done = new AbortController();
  // A scenario that fails does not ask, and the program would wait for the watch.
  void machine.ended.then(() => done.abort());
  const watched = watch([machine.group, join(machine.group, 'payload')], unit, done.signal);
  return {
    peakBytes: async () => {
      done.abort();
      return await watched;
    },
  };
}

async function watch(tops: readonly string[], unit: string, signal: AbortSignal): Promise<number | undefined> {
  let peak: number | undefined;
  while (!signal.aborted) {
    for (const top of tops) {
      const now = await memoryOf(join(top, 'system.slice', unit));
      if (now !== undefined) peak = Math.max(peak ?? 0, now);
    }
    await sleep(INTERVAL_MS, undefined, { signal }).catch(() => undefined);
  }
  return peak;
}

async function memoryOf(group: string): Promise<number | undefined> {
  const pids = (await readFile(join(group, 'cgroup.procs'), 'utf8').catch(() => '')).split('\n').filter(Boolean);
  if (pids.length === 0) return undefined;
  const each = await Promise.all(pids.map(async (pid) => residentBytes(await readFile(`/proc/${pid}/status`, 'utf8').catch(() => ''))));
  return each.reduce((sum, bytes) => sum + bytes, 0);
}

function residentBytes(status: string): number {
  const kib = [...status.matchAll(/^Rss(?:Anon|Shmem):\s+(\d+) kB$/gm)].map((match) => Number(match[1]));
  return kib.reduce((sum, value) => sum + value, 0) * 1024;
}
