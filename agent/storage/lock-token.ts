import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Length of the token of the last writer, which is the whole content of a lock file of containers-storage. A running engine reads the records of a
 * store, even of an additional one, again only if the token differs from the one it saw last. So two stores with different content that are mounted
 * at the same path one after the other must have different tokens. Nothing interprets the bytes of a token.
 * Source: github.com/containers/storage, pkg/lockfile/lastwrite.go (lastWriterIDSize, newLastWrite), v1.43 to v1.59.
 */
export const TOKEN_BYTES = 64;

/** The lock files of a store. Old engines fail on a read-only store without them. Source: containers/storage, store.go, images.go, layers.go. */
export const LOCK_FILES = [
  'storage.lock',
  'userns.lock',
  'overlay-containers/containers.lock',
  'overlay-images/images.lock',
  'overlay-layers/layers.lock',
] as const;

/** The token of a store that is written only once: the same content gives the same token. Pure. */
export function tokenOf(...content: readonly string[]): Buffer {
  return createHash('sha512').update(JSON.stringify(content)).digest();
}

/** Whether these bytes are a token that identifies a store. Before recipe 2, the agent's factory wrote zeros. Pure. */
export function isToken(bytes: Buffer): boolean {
  return bytes.length === TOKEN_BYTES && bytes.some((byte) => byte !== 0);
}

/** Whether a running engine can distinguish this store from another one at the same path. */
export async function hasToken(graphroot: string): Promise<boolean> {
  const locks = ['overlay-images/images.lock', 'overlay-layers/layers.lock'].map((name) => join(graphroot, name));
  const tokens = await Promise.all(locks.map((path) => readFile(path).catch(() => Buffer.alloc(0))));
  return tokens.every(isToken);
}
