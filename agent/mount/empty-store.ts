import { randomBytes } from 'node:crypto';
import { lstat, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Act } from '../host/acts.ts';
import { writeAtomic } from '../host/atomic.ts';
import { isRealDirectory } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { removeTree } from '../host/remove-tree.ts';
import { STORE_PATH } from '../model/places.ts';
import { isToken, LOCK_FILES, TOKEN_BYTES } from '../storage/lock-token.ts';
import { mountsAt } from './mounted.ts';

const NO_RECORDS = '[]';

/**
 * What containers-storage looks for in an additional store. Of these podman 4.3.1 needs only overlay-images with its lock on a read-only file
 * system; the others are as in a store of its own. Readable for everybody: podman of other users reads the same storage.conf.
 * Source: github.com/containers/storage, store.go, images.go, layers.go.
 */
const DIRECTORIES = ['.', 'overlay', 'overlay/l', 'overlay-containers', 'overlay-images', 'overlay-layers'];
const RECORD_FILES = ['overlay-images/images.json', 'overlay-layers/layers.json'];

/**
 * Makes sure, durably, that the additional store exists and is empty, and repairs one that is incomplete. Nothing to do if a store image is
 * mounted over it.
 */
export async function ensureEmptyStore(host: Host, act: Act): Promise<void> {
  const path = hostPath(host, STORE_PATH);
  if ((await mountsAt(path)).length > 0 || (await isEmptyStore(path))) return;
  await act('make-empty-store', async () => await makeEmptyStore(path));
}

/**
 * The same after a store image was unmounted, with new tokens each time. An engine that looked while the mount changed may have noted the old token of
 * the empty store together with the records of the store image; with the same token it would keep using these records.
 */
export async function renewEmptyStore(host: Host, act: Act): Promise<void> {
  const path = hostPath(host, STORE_PATH);
  if ((await mountsAt(path)).length > 0) return;
  await act('make-empty-store', async () => await makeEmptyStore(path));
}

/** Writes the records before the tokens, because an engine that sees a new token reads the records. */
async function makeEmptyStore(path: string): Promise<void> {
  for (const directory of DIRECTORIES) await makeDirectory(join(path, directory));
  for (const file of RECORD_FILES.map((name) => join(path, name))) if (!(await hasNoRecords(file))) await putFile(file, NO_RECORDS);
  const token = randomBytes(TOKEN_BYTES);
  await Promise.all(LOCK_FILES.map(async (file) => await putFile(join(path, file), token)));
}

async function isEmptyStore(path: string): Promise<boolean> {
  const looks = await Promise.all([
    ...DIRECTORIES.map((directory) => isRealDirectory(join(path, directory))),
    ...RECORD_FILES.map((file) => hasNoRecords(join(path, file))),
    ...LOCK_FILES.map((file) => hasOwnToken(join(path, file))),
  ]);
  return !looks.includes(false);
}

async function hasNoRecords(path: string): Promise<boolean> {
  return (await readSmallFile(path))?.toString() === NO_RECORDS;
}

/** Empty stores of an older agent have zeros there, like its store images. */
async function hasOwnToken(path: string): Promise<boolean> {
  const token = await readSmallFile(path);
  return token !== undefined && isToken(token);
}

async function readSmallFile(path: string): Promise<Buffer | undefined> {
  const found = await lstat(path).catch(() => undefined);
  return found?.isFile() === true && found.size <= TOKEN_BYTES ? await readFile(path) : undefined;
}

async function makeDirectory(path: string): Promise<void> {
  if (await isRealDirectory(path)) return;
  // Whatever is here is not a directory, so nothing below it can be lost.
  await rm(path, { force: true });
  await mkdir(path, { recursive: true, mode: 0o755 });
}

async function putFile(path: string, content: string | Buffer): Promise<void> {
  if (await isRealDirectory(path)) await removeTree(path);
  await writeAtomic(path, content);
}
