import { existsSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { manifestBytes, readBundle } from '../bundle/read-bundle.ts';
import type { StoreBundle } from '../bundle/stage-bundle.ts';
import { output } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import { makePrivateDirectory } from '../host/private-directory.ts';
import { removeTree } from '../host/remove-tree.ts';
import { BUNDLE_FILE } from '../model/bundle.ts';
import { messageOf, PrestageError } from '../model/errors.ts';
import { DISK_BUNDLE_PATH } from '../model/places.ts';
import { checkLimits, copySealedFiles } from '../registry/sealed-files.ts';
import type { RunContext } from './context.ts';

/** Of a bundle with a store, what is kept. */
type KeptParts = Pick<StoreBundle, 'directory' | 'sealedSha256'> & { readonly store: Pick<StoreBundle['store'], 'mirror'> };

/**
 * Keeps on the disk what a store image that was copied there needs besides: the bundle's manifest and the metadata mirror, of which only what the
 * manifest lists, in the size and with the hash that it lists. So the partition may go away. What is kept is checked each time it is used, as on
 * the partition.
 * @throws PrestageError ERR_BUNDLE_FILE, ERR_BUNDLE_PIN, ERR_SPACE_STORE
 */
export async function keepBundle(
  { directory, sealedSha256, store }: KeptParts,
  { host, step, stop }: Pick<RunContext, 'host' | 'step' | 'stop'>,
): Promise<void> {
  const path = hostPath(host, DISK_BUNDLE_PATH);
  if (sealedSha256 === undefined || (await keptBundle(host, sealedSha256)) !== undefined) return;
  const { mirror } = store;
  checkLimits({ from: mirror.path, files: mirror.files });
  await step('keep-bundle', async () => {
    const partial = `${path}.new`;
    await removeTree(partial);
    await makePrivateDirectory(partial);
    const files = { from: mirror.path, files: mirror.files, signal: stop };
    await copySealedFiles(join(partial, relative(directory, mirror.path)), files, noRoom);
    await writeFile(join(partial, BUNDLE_FILE), await manifestBytes(directory, sealedSha256)).catch((cause: unknown) => {
      throw noRoom(join(partial, BUNDLE_FILE), cause);
    });
    await output(host.exec, 'sync', ['--file-system', partial]);
    await removeTree(path);
    await rename(partial, path);
    await output(host.exec, 'sync', ['--file-system', dirname(path)]);
  });
}

function noRoom(path: string, cause: unknown): PrestageError {
  if (cause instanceof PrestageError) return cause;
  return new PrestageError(
    'ERR_SPACE_STORE',
    `what a store image on the disk needs of its bundle cannot be kept, ${path}: ${messageOf(cause)}`,
    'Make room below /var/lib/prestage-agent, or give --placement partition',
    { cause },
  );
}

/** The bundle that was kept; undefined where there is none that can be used. */
export async function keptBundle(host: Host, pinnedSha256: string | undefined): Promise<string | undefined> {
  const path = hostPath(host, DISK_BUNDLE_PATH);
  if (!existsSync(path)) return undefined;
  return await readBundle(path, pinnedSha256).then(
    () => path,
    () => undefined,
  );
}

/** Forgets it: the store image is not on the disk any more. */
export async function forgetBundle({ host, step }: RunContext): Promise<void> {
  const path = hostPath(host, DISK_BUNDLE_PATH);
  if (existsSync(path)) await step('forget-bundle', async () => await removeTree(path));
}
