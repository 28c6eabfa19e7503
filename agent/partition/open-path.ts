import { stat } from 'node:fs/promises';
import { plainAct } from '../host/acts.ts';
import type { Host } from '../host/host.ts';
import { mountReadOnly } from '../host/mounts.ts';
import { privateTarget } from '../host/private-mount.ts';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';
import { openDisk, readDisk } from './disk.ts';
import { choosePartition, FILE_SYSTEMS } from './find.ts';
import { announcePartition } from './kernel-partitions.ts';

/** A folder that can be read, wherever it is. Disposing unmounts and detaches what was set up for it. */
export interface OpenFolder extends AsyncDisposable {
  readonly path: string;
  /** What a person named: a folder, a block device, or an image of a disk or a file system. */
  readonly kind: 'folder' | 'device' | 'image';
  /** The mounted device, if one was mounted. */
  readonly device: string | undefined;
}

/**
 * Opens what a person names for reading: a folder directly; a partition, an ISO, or an image of one by its file system; a disk, or an image of one, by
 * its partition with the label. Nothing is written, not even a journal.
 * @throws PrestageError ERR_PAYLOAD_MISSING if the path does not exist, ERR_DISK…, ERR_PARTITION_…
 */
export async function openPath(host: Host, path: string, label: string): Promise<OpenFolder> {
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError(
      'ERR_PAYLOAD_MISSING',
      `${path} cannot be read: ${reasonOf(cause)}`,
      'Name the folder of a bundle, a device or a disk image',
      { cause },
    );
  });
  if (found.isDirectory()) return { path, kind: 'folder', device: undefined, [Symbol.asyncDispose]: async () => undefined };
  const stack = new AsyncDisposableStack();
  try {
    const disk = stack.use(await openDisk(host, path, { readOnly: true, act: plainAct }));
    const { device, fileSystem } = await fileSystemOn(host, disk, label);
    const mount = stack.use(await mountReadOnly(host, { device, fileSystem, target: await privateTarget(host) }));
    return {
      path: mount.path,
      kind: disk.image === undefined ? 'device' : 'image',
      device,
      [Symbol.asyncDispose]: async () => await stack.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

async function fileSystemOn(host: Host, disk: Awaited<ReturnType<typeof openDisk>>, label: string) {
  const facts = await readDisk(host, disk);
  if (facts.content !== undefined && FILE_SYSTEMS.includes(facts.content)) return { device: facts.device, fileSystem: facts.content };
  const chosen = choosePartition(
    facts.partitions.map((partition) => ({ ...partition, sizeBytes: 0 })),
    label,
  );
  const partition = facts.partitions.find((one) => one.device === chosen?.device);
  if (chosen === undefined || partition === undefined) {
    const seen = facts.partitions.map((one) => `"${one.label}"`).join(', ');
    throw new PrestageError(
      'ERR_PARTITION_MISSING',
      `${disk.name} holds ${facts.content ?? 'no file system'}, and no partition has the GPT label "${label}"; labels seen: ${seen || 'none'}`,
      'Use --label, or name the partition itself',
    );
  }
  await announcePartition(host, facts, partition);
  return chosen;
}
