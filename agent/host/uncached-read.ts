import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { messageOf, PrestageError } from '../model/errors.ts';
import { quote, startFailure } from './exec.ts';

/** Size of one read: a page, and a multiple of the sector size of every disk. */
const BLOCK_BYTES = 4096;
/** Number of blocks at random places that are read besides the first block. Finding every bad place of a disk is the task of the check. */
const RANDOM_BLOCKS = 4;

/** The result of reading: `silent` if the disk did not respond in time. */
export type UncachedRead =
  | { readonly kind: 'read' }
  | { readonly kind: 'failed'; readonly reason: string }
  /** The path does not exist, or this user may not read it: that says nothing about the disk. */
  | { readonly kind: 'denied' | 'missing'; readonly reason: string }
  | { readonly kind: 'silent' };

export interface UncachedFile {
  readonly path: string;
  readonly sizeBytes: number;
}

/**
 * Reads a few blocks of a file from its disk, bypassing the page cache, which would hide a dead disk. A separate program reads, because a
 * thread that waits for a hanging disk could not be ended, and neither could the agent. The agent does not wait for a hanging program either.
 * @param limitMs time limit for all reads together
 */
export async function readUncached({ path, sizeBytes }: UncachedFile, limitMs: number): Promise<UncachedRead> {
  const blocks = Math.max(1, Math.floor(sizeBytes / BLOCK_BYTES));
  const places = [0, ...Array.from({ length: RANDOM_BLOCKS }, () => Math.floor(Math.random() * blocks))];
  const until = AbortSignal.timeout(limitMs);
  const found = await Promise.all([...new Set(places)].map(async (place) => await readBlock(path, place, until)));
  return found.find(({ kind }) => kind === 'failed') ?? found.find(({ kind }) => kind !== 'read') ?? { kind: 'read' };
}

/**
 * Some file systems refuse direct reads (iso9660; tmpfs of older kernels): there, the cached pages of the file are dropped first.
 * Source: open(2), O_DIRECT; dd(1), "nocache".
 */
async function readBlock(path: string, place: number, until: AbortSignal): Promise<UncachedRead> {
  const block = [`if=${path}`, 'of=/dev/null', `bs=${BLOCK_BYTES}`, 'count=1', `skip=${place}`, 'status=none'];
  const direct = await dd([...block, 'iflag=direct'], until);
  if (direct.kind !== 'failed' || !direct.reason.includes('Invalid argument')) return direct;
  const dropped = await dd([`if=${path}`, 'of=/dev/null', 'count=0', 'iflag=nocache', 'status=none'], until);
  return dropped.kind === 'read' ? await dd(block, until) : dropped;
}

async function dd(args: readonly string[], until: AbortSignal): Promise<UncachedRead> {
  const child = spawn('dd', args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, LC_ALL: 'C' } });
  const messages = text(child.stderr).catch(() => '');
  const late = once(until, 'abort').then((): UncachedRead => ({ kind: 'silent' }));
  const result = await Promise.race([endOf(child, messages), late]);
  if (result.kind !== 'silent') return result;
  child.kill('SIGKILL');
  child.unref();
  child.stderr.destroy();
  return result;
}

/** Source: strerror(3) in the C locale. */
const FAULTS = [
  ['Permission denied', 'denied'],
  ['No such file or directory', 'missing'],
] as const;

async function endOf(child: ChildProcess, messages: Promise<string>): Promise<UncachedRead> {
  const [code] = await once(child, 'close').catch((cause: unknown) => {
    const missing = new PrestageError('ERR_TOOL_MISSING', `dd cannot be started: ${messageOf(cause)}`, 'Install dd on this machine', {
      cause,
    });
    throw startFailure('dd', cause) ?? missing;
  });
  if (code === 0) return { kind: 'read' };
  const reason = quote(await messages).replace(/^dd: /, '');
  return { kind: FAULTS.find(([text]) => reason.endsWith(text))?.[1] ?? 'failed', reason };
}
