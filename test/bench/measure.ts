import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execOnLinux, output, shellExitCode } from '../../agent/host/exec.ts';

/** What one command took. Sizes are bytes, times seconds. */
export interface Measurement {
  readonly exitCode: number;
  readonly wallSeconds: number;
  /** As `wallSeconds`, and then until all that was written is on the disk. */
  readonly durableSeconds: number;
  /** User and system time of the command and all that it started. */
  readonly cpuSeconds: number;
  /** CPU time that the rest of the machine took meanwhile: where it is not small, the wall times say little. */
  readonly othersCpuSeconds: number;
  /** What the command and all that it started wrote to files on disks. Source: proc_pid_io(5), write_bytes. */
  readonly writtenBytes: number;
  /** What of that was removed again before it came to a disk. Source: proc_pid_io(5), cancelled_write_bytes. */
  readonly cancelledBytes: number;
  /** What the device of the work directory took meanwhile, by this command and by others. Source: proc_diskstats(5). */
  readonly deviceBytes: number;
  /** Largest resident set of the command itself, without what it started. Source: proc_pid_status(5), VmHWM. */
  readonly peakRssBytes: number;
  /** Most that lay in `scratch` at one time. */
  readonly peakScratchBytes: number;
  readonly stderr: string;
}

export interface Subject {
  readonly argv: readonly string[];
  /** A directory on the device whose writes are counted. */
  readonly work: string;
  /** A file system that only the command's scratch lies on. */
  readonly scratch?: string;
}

/** Processes that end are counted to the one that waits for them: after the command the shell knows what all of them did. */
const WRAPPER = `
out=$1; shift
TIMEFORMAT='%R %U %S'
time bash -c 'echo $$ >"$0/pid"; exec "$@"' "$out" "$@" >"$out/stdout" 2>"$out/stderr"
code=$?
cat /proc/$$/io >"$out/io"
exit $code`;

const POLL_MS = 50;

/** Runs a command with the page cache dropped, and measures it. Needs root for the caches. */
export async function measure(subject: Subject): Promise<Measurement> {
  const records = await mkdtemp(join(tmpdir(), 'measure-'));
  try {
    await output(execOnLinux, 'sync', []);
    await writeFile('/proc/sys/vm/drop_caches', '3');
    const sectorsBefore = await sectorsWritten(subject.work);
    const busyBefore = await busyCpuSeconds();
    const started = performance.now();
    const child = spawn('bash', ['-c', WRAPPER, 'measure', records, ...subject.argv], { stdio: ['ignore', 'ignore', 'pipe'] });
    let times = '';
    child.stderr.on('data', (chunk: Buffer) => {
      times += chunk.toString();
    });
    const ended = new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve(shellExitCode(code, signal)));
    });
    const watch = watchPeaks(records, subject.scratch, ended);
    const exitCode = await ended;
    const busySeconds = (await busyCpuSeconds()) - busyBefore;
    await output(execOnLinux, 'sync', []);
    const durableSeconds = (performance.now() - started) / 1000;
    const deviceBytes = ((await sectorsWritten(subject.work)) - sectorsBefore) * 512;
    const [wallSeconds = 0, user = 0, system = 0] = (times.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
    const io = await readFile(join(records, 'io'), 'utf8');
    return {
      exitCode,
      wallSeconds,
      durableSeconds,
      cpuSeconds: user + system,
      othersCpuSeconds: Math.max(0, busySeconds - user - system),
      writtenBytes: field(io, 'write_bytes'),
      cancelledBytes: field(io, 'cancelled_write_bytes'),
      deviceBytes,
      ...(await watch),
      stderr: await readFile(join(records, 'stderr'), 'utf8'),
    };
  } finally {
    await rm(records, { recursive: true });
  }
}

async function watchPeaks(records: string, scratch: string | undefined, ended: Promise<number>) {
  const peaks = { peakRssBytes: 0, peakScratchBytes: 0 };
  let isRunning = true;
  const stop = () => {
    isRunning = false;
  };
  ended.then(stop, stop);
  const usedBefore = scratch === undefined ? 0 : await usedBytes(scratch);
  while (isRunning) {
    const pid = (await readFile(join(records, 'pid'), 'utf8').catch(() => '')).trim();
    const status = pid === '' ? '' : await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    peaks.peakRssBytes = Math.max(peaks.peakRssBytes, field(status, 'VmHWM') * 1024);
    if (scratch !== undefined) peaks.peakScratchBytes = Math.max(peaks.peakScratchBytes, (await usedBytes(scratch)) - usedBefore);
    await sleep(POLL_MS);
  }
  return peaks;
}

async function usedBytes(path: string): Promise<number> {
  const { blocks, bfree, bsize } = await statfs(path);
  return (blocks - bfree) * bsize;
}

/** Sectors of 512 bytes that the device of a directory has written since boot. */
async function sectorsWritten(directory: string): Promise<number> {
  const { dev } = await stat(directory);
  const major = ((dev >> 8) & 0xfff).toString();
  const minor = ((dev & 0xff) | ((dev >> 12) & 0xfff00)).toString();
  const lines = (await readFile('/proc/diskstats', 'utf8')).split('\n').map((line) => line.trim().split(/\s+/));
  return Number(lines.find((words) => words[0] === major && words[1] === minor)?.[9] ?? 0);
}

/** CPU time of all cores since boot, without idling; clock ticks are 1/100 s on Linux. Source: proc_stat(5). */
async function busyCpuSeconds(): Promise<number> {
  const ticks = ((await readFile('/proc/stat', 'utf8')).split('\n')[0] ?? '').trim().split(/\s+/).slice(1).map(Number);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = ticks;
  return (user + nice + system + irq + softirq) / 100;
}

/** A number after `NAME:` in the files of /proc. */
function field(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(text)?.[1] ?? 0);
}
