import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readManifest } from '../../bundle/read-bundle.ts';
import { unlistedFiles } from '../../bundle/verify-files.ts';
import { syncDirectory, writeAtomic } from '../../host/atomic.ts';
import { output } from '../../host/exec.ts';
import type { Host } from '../../host/host.ts';
import { BUNDLE_FILE, PARTIAL_FILE } from '../../model/bundle.ts';
import { removeInner } from '../../partition/inner-files.ts';
import { WORK_FOLDER } from './index-page.ts';
import type { Source } from './source.ts';

export interface Finished {
  /** Files of an earlier bundle that the new one has no more. */
  readonly removed: readonly string[];
  readonly notices: readonly string[];
}

/** Seals what has come, and clears up. */
export async function finish(host: Host, source: Source, directory: string): Promise<Finished> {
  const partial = join(directory, PARTIAL_FILE);
  // Files were synced one by one; this brings new directories, too, before anything says that all is there.
  await output(host.exec, 'sync', ['--file-system', directory]);
  if (source.kind === 'folder') {
    await removeParts(directory);
    await rm(partial, { force: true });
    await syncDirectory(directory);
    return { removed: [], notices: [] };
  }
  const stale = await staleFiles(source, directory);
  await writeAtomic(join(directory, BUNDLE_FILE), source.bytes);
  for (const path of stale) await removeInner(directory, path);
  await rm(join(directory, WORK_FOLDER), { recursive: true, force: true });
  await rm(partial, { force: true });
  await syncDirectory(directory);
  const others = await unlistedFiles(directory, source.bundle.files);
  return { removed: stale, notices: others.map((path) => `${join(directory, path)} does not belong to the bundle`) };
}

async function removeParts(directory: string): Promise<void> {
  const names = await readdir(join(directory, WORK_FOLDER)).catch(() => []);
  for (const name of names) if (/\.part(\.json)?$/.test(name)) await rm(join(directory, WORK_FOLDER, name), { force: true });
}

/** Files of the bundle that lies there and that the new one does not have. */
async function staleFiles(source: Source & { readonly kind: 'bundle' }, directory: string): Promise<readonly string[]> {
  const old = await readManifest(directory).catch(() => undefined);
  const current = new Set(source.bundle.files.map((file) => file.path));
  return old?.bundle.files.map((file) => file.path).filter((path) => !current.has(path)) ?? [];
}
