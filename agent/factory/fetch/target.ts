import { realpath, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Act } from '../../host/acts.ts';
import type { Host } from '../../host/host.ts';
import { mountPrivately } from '../../host/private-mount.ts';
import { type LocatedPartition, locatePartition } from '../../partition/locate.ts';

/** The place for fetched files: a folder, or the mounted data partition of a disk or of a disk image. Disposing of it unmounts. */
export interface FetchTarget extends AsyncDisposable {
  readonly directory: string;
  /** Its name in messages. */
  readonly name: string;
  readonly partition: Pick<LocatedPartition, 'device' | 'identity'> | undefined;
}

/**
 * Opens the target of a fetch. Anything that is neither a block device nor a plain file is a folder, which may be missing.
 * @throws PrestageError ERR_DISK…, ERR_PARTITION_…
 */
export async function openTarget(
  host: Host,
  request: { readonly to: string; readonly label: string; readonly isDry: boolean; readonly act: Act },
): Promise<FetchTarget> {
  const found = await stat(request.to).catch(() => undefined);
  if (found?.isBlockDevice() !== true && found?.isFile() !== true) {
    const directory = await realpath(request.to).catch(() => resolve(request.to));
    return { directory, name: directory, partition: undefined, [Symbol.asyncDispose]: async () => undefined };
  }
  const stack = new AsyncDisposableStack();
  try {
    const { to, label, isDry: readOnly, act } = request;
    const partition = stack.use(await locatePartition(host, { target: to, label, readOnly, act }));
    const mount = stack.use(await mountPrivately(host, { device: partition.device, fileSystem: partition.fileSystem, readOnly, act }));
    return { directory: mount.path, name: partition.name, partition, [Symbol.asyncDispose]: async () => await stack.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}
