import { readFile } from 'node:fs/promises';

/** Identifies one boot of the machine. Source: random(4), /proc/sys/kernel/random/boot_id. */
export async function readBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

/**
 * When a process was started, in clock ticks since boot, or undefined where there is none of that id: pid and start time together name
 * one process. Source: proc_pid_stat(5), field 22.
 */
export async function processStartTicks(pid: number): Promise<number | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z') return undefined;
    return Number(fields[19]);
  } catch {
    return undefined;
  }
}
