import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Host } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';
import type { DiskPartition } from './disk-facts.ts';

/** A disk whose table has just been read or changed. */
interface DiskTable {
  readonly device: string;
  readonly sectorBytes: number;
}

/** How long a device node may take to appear after the kernel knows the partition. */
const NODE_LIMIT_MS = 5_000;
const NODE_PAUSE_MS = 50;

/**
 * Makes the kernel know a partition as listed in the table. Usually the kernel has read the table by itself. Kernels without GPT support, and loop
 * devices, need partx(8). Then waits for udev and the device node.
 * @throws PrestageError ERR_TOOL_FAILED
 */
export async function announcePartition(host: Host, disk: DiskTable, partition: DiskPartition): Promise<void> {
  await settle(host);
  const isKnown = async (): Promise<boolean> => (await kernelRange(partition.device)) === wantedRange(disk, partition);
  if (!(await isKnown())) {
    await forgetPartition(host, disk, partition);
    const added = await host.exec('partx', ['--add', '--nr', String(partition.number), disk.device]);
    await settle(host);
    if (!(await isKnown())) {
      throw new PrestageError(
        'ERR_TOOL_FAILED',
        `${disk.device}: the kernel does not accept partition ${partition.number}: ${added.stderr.trim() || 'no reason given'}`,
        `Run by hand: partx --update ${disk.device}`,
      );
    }
  }
  for (const start = host.clock.monotonicMs(); !existsSync(partition.device); await host.clock.sleep(NODE_PAUSE_MS)) {
    if (host.clock.monotonicMs() - start > NODE_LIMIT_MS)
      throw new PrestageError('ERR_TOOL_FAILED', `${partition.device} did not appear`, 'Find the cause with dmesg and udevadm monitor');
  }
}

/** Makes the kernel forget a partition that was removed from the table or moved. */
export async function forgetPartition(host: Host, disk: DiskTable, partition: Pick<DiskPartition, 'number' | 'device'>): Promise<void> {
  if ((await kernelRange(partition.device)) === undefined) return;
  await host.exec('partx', ['--delete', '--nr', String(partition.number), disk.device]);
}

/** Waits until udev has handled the change; returns at once if udev does not run. */
async function settle(host: Host): Promise<void> {
  if (existsSync('/run/udev/control')) await host.exec('udevadm', ['settle', '--timeout=10']);
}

/** Start and length in units of 512 bytes, whatever the disk's sectors are. Source: Linux, Documentation/ABI/stable/sysfs-block. */
async function kernelRange(device: string): Promise<string | undefined> {
  const attribute = async (name: string): Promise<string> =>
    (await readFile(`/sys/class/block/${basename(device)}/${name}`, 'utf8').catch(() => '')).trim();
  const [start, size] = [await attribute('start'), await attribute('size')];
  return start === '' ? undefined : `${start}+${size}`;
}

function wantedRange(disk: DiskTable, { startSector, endSector }: DiskPartition): string {
  const units = disk.sectorBytes / 512;
  return `${startSector * units}+${(endSector - startSector + 1) * units}`;
}
