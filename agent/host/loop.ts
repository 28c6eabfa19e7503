import { type FileHandle, open } from 'node:fs/promises';
import { PrestageError } from '../model/errors.ts';
import { howEnded, output, quote } from './exec.ts';
import type { Host } from './host.ts';

/** A file attached to a loop device. Disposing of the lease detaches the device; the file remains. */
export interface LoopLease extends AsyncDisposable {
  /** `/dev/loopN`; the kernel may not know its partitions yet. */
  readonly device: string;
}

/** Number of attempts: another program can take the free device first. */
const ATTACH_TRIES = 20;

/** Our handle keeps the device busy, so `--detach` only marks it. A single program does both, and continues if this one is killed. */
const ATTACH = 'device=$1; shift; losetup "$@" && losetup --detach "$device"';

/** A program that scans new devices can hold a detached device for a moment. */
const DETACH_TRIES = 20;
const DETACH_PAUSE_MS = 100;

/**
 * Attaches a disk image to a free loop device. The kernel detaches it even if this process is killed: the device is marked to be detached after
 * its last user, which is this process or a mount (loop(4), LO_FLAGS_AUTOCLEAR).
 * @throws PrestageError ERR_TOOL_FAILED
 */
export async function attachLoop(host: Host, image: string, options: { readonly readOnly: boolean }): Promise<LoopLease> {
  const sectorBytes = await sectorBytesOf(image);
  const flags = ['--partscan', '--sector-size', String(sectorBytes), ...(options.readOnly ? ['--read-only'] : [])];
  for (let attempt = 1; ; attempt++) {
    await using stack = new AsyncDisposableStack();
    const device = (await output(host.exec, 'losetup', ['--find'])).trim();
    const opened: FileHandle = stack.use(await open(device, 'r'));
    const { exitCode, stderr } = await host.exec('sh', ['-c', ATTACH, 'sh', device, ...flags, device, image]);
    if (exitCode !== 0) {
      if (attempt < ATTACH_TRIES && /busy/i.test(stderr)) continue;
      throw new PrestageError(
        'ERR_TOOL_FAILED',
        `${image} cannot be attached to a loop device: ${quote(stderr)}`,
        'Run the command by hand to see why',
      );
    }
    // A read-only mark of an earlier user remains after the attachment.
    if (!options.readOnly) await output(host.exec, 'blockdev', ['--setrw', device]);
    stack.move();
    return { device, [Symbol.asyncDispose]: async () => await detach(host, { device, image, opened }) };
  }
}

async function detach(host: Host, loop: { readonly device: string; readonly image: string; readonly opened: FileHandle }): Promise<void> {
  await loop.opened.close();
  for (let attempt = 0; attempt < DETACH_TRIES; attempt++) {
    if (attempt > 0) await host.clock.sleep(DETACH_PAUSE_MS);
    if (!(await loopsOf(host, loop.image)).includes(loop.device)) return;
  }
  throw new PrestageError(
    'ERR_PARTITION_BUSY',
    `${loop.device} cannot be detached from ${loop.image}`,
    `Find the processes that use it with: fuser -v ${loop.device}; it detaches by itself when they end`,
  );
}

/** How long to wait for a loop device that detaches after its last user: a program of a killed command may still write to it. */
const LEFT_LIMIT_MS = 5_000;
const LEFT_PAUSE_MS = 50;

/**
 * Waits for loop devices of a file that detach by themselves, as those of the agent do (LO_FLAGS_AUTOCLEAR).
 * @returns a loop device to which the file remains attached; undefined if there is none
 */
export async function lastingLoop(host: Host, image: string): Promise<string | undefined> {
  for (const start = host.clock.monotonicMs(); ; await host.clock.sleep(LEFT_PAUSE_MS)) {
    const { stdout } = await host.exec('losetup', ['--associated', image, '--noheadings', '--output', 'NAME,AUTOCLEAR']);
    const [first, ...others] = stdout.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.trim().split(/\s+/)]));
    if (first === undefined) return undefined;
    const isLasting = [first, ...others].some(([, autoclear]) => autoclear !== '1');
    if (isLasting || host.clock.monotonicMs() - start > LEFT_LIMIT_MS) return first[0];
  }
}

/** The loop devices to which a file is attached, on the whole machine. */
export async function loopsOf(host: Host, image: string): Promise<readonly string[]> {
  const result = await host.exec('losetup', ['--associated', image, '--noheadings', '--output', 'NAME']);
  if (result.exitCode === 0) return result.stdout.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.trim()]));
  throw new PrestageError(
    'ERR_TOOL_FAILED',
    `losetup --associated ${image} ${howEnded(result)}: ${quote(result.stderr)}`,
    'Run the command by hand to see why',
  );
}

/** The sector size of a disk image, by the position of the GPT header, which is in the second sector. Source: UEFI 2.10, 5.3.2. */
async function sectorBytesOf(image: string): Promise<512 | 4096> {
  await using file: FileHandle = await open(image, 'r');
  const signatureAt = async (position: number): Promise<string> => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(8), 0, 8, position);
    return buffer.toString('latin1', 0, bytesRead);
  };
  return (await signatureAt(512)) !== 'EFI PART' && (await signatureAt(4096)) === 'EFI PART' ? 4096 : 512;
}
