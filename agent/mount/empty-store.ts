import { lstat, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomic } from '../host/atomic.ts';
import { type Host, hostPath } from '../host/host.ts';
import type { Step } from '../host/steps.ts';
import { STORE_PATH } from '../model/places.ts';
import { mountsAt } from './mounted.ts';

/** A lock file holds the random id of its last writer, of this length. Source: github.com/containers/storage, pkg/lockfile. */
const LOCK = '\0'.repeat(64);
const NO_RECORDS = '[]';

/**
 * What containers-storage looks for in an additional store. Of these podman 4.3.1 needs only overlay-images with its lock on a read-only file
 * system; the others are as in a store of its own. Readable for everybody: podman of other users reads the same storage.conf.
 * Source: github.com/containers/storage, store.go, images.go, layers.go.
 */
const DIRECTORIES = ['.', 'overlay', 'overlay/l', 'overlay-containers', 'overlay-images', 'overlay-layers'];
const FILES: Readonly<Record<string, string>> = {
  'storage.lock': LOCK,
  'userns.lock': LOCK,
  'overlay-containers/containers.lock': LOCK,
  'overlay-images/images.lock': LOCK,
  'overlay-layers/layers.lock': LOCK,
  'overlay-images/images.json': NO_RECORDS,
  'overlay-layers/layers.json': NO_RECORDS,
};

/**
 * Makes sure, durably, that the additional store is there and empty, and repairs what is half-made. Nothing to do where a store image is
 * mounted over it.
 */
export async function ensureEmptyStore(host: Host, step: Step): Promise<void> {
  const path = hostPath(host, STORE_PATH);
  if ((await mountsAt(path)).length > 0 || (await isEmptyStore(path))) return;
  await step('make-empty-store', async () => {
    for (const directory of DIRECTORIES) await makeDirectory(join(path, directory));
    await Promise.all(Object.entries(FILES).map(async ([file, content]) => await putFile(join(path, file), content)));
  });
}

async function isEmptyStore(path: string): Promise<boolean> {
  const directories = await Promise.all(DIRECTORIES.map((directory) => isDirectory(join(path, directory))));
  if (directories.includes(false)) return false;
  const files = await Promise.all(Object.entries(FILES).map(([file, content]) => hasContent(join(path, file), content)));
  return !files.includes(false);
}

async function isDirectory(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined))?.isDirectory() ?? false;
}

/** The id in a lock file changes when somebody writes it, and says nothing about the store. */
async function hasContent(path: string, content: string): Promise<boolean> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined || !found.isFile()) return false;
  return content === LOCK || (found.size === content.length && (await readFile(path, 'utf8')) === content);
}

async function makeDirectory(path: string): Promise<void> {
  if (await isDirectory(path)) return;
  // Whatever stands here is no directory, so nothing below it can be lost.
  await rm(path, { force: true });
  await mkdir(path, { recursive: true, mode: 0o755 });
}

async function putFile(path: string, content: string): Promise<void> {
  if (await hasContent(path, content)) return;
  if (await isDirectory(path)) await rm(path, { recursive: true });
  await writeAtomic(path, content);
}
