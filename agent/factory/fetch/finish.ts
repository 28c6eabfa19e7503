import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readManifest } from '../../bundle/read-bundle.ts';
import { unlistedFiles } from '../../bundle/verify-files.ts';
import type { Act } from '../../host/acts.ts';
import { removeTemporaries, syncDirectory, writeAtomic } from '../../host/atomic.ts';
import type { Host } from '../../host/host.ts';
import { removeTree } from '../../host/remove-tree.ts';
import { syncFileSystem } from '../../host/sync.ts';
import { BUNDLE_FILE, PARTIAL_FILE } from '../../model/bundle.ts';
import { removeInner } from '../../partition/inner-files.ts';
import { WORK_FOLDER } from './index-page.ts';
import type { Source } from './source.ts';

export interface Finished {
  /** Files of an earlier bundle that the new one no longer has. */
  readonly removed: readonly string[];
  readonly notices: readonly string[];
}

/** Seals the fetched files, and removes work files. */
export async function finish(
  host: Host,
  source: Source,
  { directory, act }: { readonly directory: string; readonly act: Act },
): Promise<Finished> {
  // Files were synced one by one; this also syncs new directories, before the target is marked as complete.
  await act('sync-fetch', async () => await syncFileSystem(host.exec, directory));
  if (source.kind === 'folder') {
    await act('remove-fetch-work', async () => await removeParts(directory));
    await act('unmark-fetch', async () => await unmark(directory));
    return { removed: [], notices: [] };
  }
  // Before the new manifest is written: afterwards nothing would show that these files belonged to a bundle.
  const stale = await staleFiles(source, directory);
  for (const path of stale) await act('remove-stale-file', async () => await removeInner(directory, path));
  await act('place-fetched-manifest', async () => await writeAtomic(join(directory, BUNDLE_FILE), source.bytes));
  await act('remove-fetch-work', async () => await removeTree(join(directory, WORK_FOLDER)));
  await act('unmark-fetch', async () => await unmark(directory));
  const others = await unlistedFiles(directory, source.bundle.files);
  return { removed: stale, notices: others.map((path) => `${join(directory, path)} does not belong to the bundle`) };
}

async function unmark(directory: string): Promise<void> {
  await rm(join(directory, PARTIAL_FILE), { force: true });
  await syncDirectory(directory);
}

async function removeParts(directory: string): Promise<void> {
  await removeTemporaries(join(directory, WORK_FOLDER));
  const names = await readdir(join(directory, WORK_FOLDER)).catch(() => []);
  for (const name of names) if (/\.part(\.json)?$/.test(name)) await rm(join(directory, WORK_FOLDER, name), { force: true });
}

/** Files of the existing bundle that the new one does not have. */
async function staleFiles(source: Source & { readonly kind: 'bundle' }, directory: string): Promise<readonly string[]> {
  const old = await readManifest(directory).catch(() => undefined);
  const current = new Set(source.bundle.files.map((file) => file.path));
  return old?.bundle.files.map((file) => file.path).filter((path) => !current.has(path)) ?? [];
}
