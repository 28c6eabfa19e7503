import { readdirSync, readFileSync } from 'node:fs';
import type { Host } from '../host/host.ts';

/**
 * Process id of the CRI-O that runs on this machine, or undefined. It is found by its name, which the kernel keeps: CRI-O writes no file with its
 * id. Source: proc_pid_comm(5).
 */
export function crioPid(host: Pick<Host, 'root'>): number | undefined {
  if (host.root !== '/') return undefined;
  // Some hundred reads of a few bytes from memory: faster one after the other than through the thread pool.
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .find((pid) => commandOf(pid) === 'crio');
}

function commandOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    // It has ended since.
    return undefined;
  }
}
