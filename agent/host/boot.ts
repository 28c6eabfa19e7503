import { readFile } from 'node:fs/promises';

/** Identifies one boot of the machine. Source: random(4), /proc/sys/kernel/random/boot_id. */
export async function readBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

/**
 * The start time of a process in clock ticks since boot, or undefined if there is no such process: pid and start time together identify a
 * process. Source: proc_pid_stat(5), field 22.
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

/** Milliseconds since boot, by the same clock as the start times of processes. Source: proc_uptime(5). */
export async function sinceBootMs(): Promise<number> {
  return Math.round(Number((await readFile('/proc/uptime', 'utf8')).split(' ')[0]) * 1000);
}

/** USER_HZ is 100 on every architecture that Node runs on. Source: time(7), "The software clock, HZ, and jiffies". */
const TICK_MS = 10;

/** The start time of a process in milliseconds since boot; undefined if there is no such process. */
export async function processStartMs(pid: number): Promise<number | undefined> {
  const ticks = await processStartTicks(pid);
  return ticks === undefined ? undefined : ticks * TICK_MS;
}
