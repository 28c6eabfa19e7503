import type { Digest } from '../model/digest.ts';
import type { Descriptor } from '../model/manifest.ts';
import { readLayers, type StorageLocation } from './records.ts';

/**
 * What a run knows of the layers in storage. Parsing the records of 10,000 layers takes 0.1 s, and a run may load 2,000 images. So the records are
 * read when the run begins to load and when a load has failed; layers that the run itself has loaded are added.
 */
export interface StoredLayers {
  has(digest: Digest): boolean;
  add(layers: readonly Descriptor[]): void;
  /** Reads the records again. @throws PrestageError ERR_STORAGE */
  refresh(): Promise<void>;
}

/** @throws PrestageError ERR_STORAGE */
export async function readStoredLayers(location: StorageLocation): Promise<StoredLayers> {
  let known = new Set(await readLayers(location));
  return {
    has: (digest) => known.has(digest),
    add: (layers) => {
      for (const { digest } of layers) known.add(digest);
    },
    refresh: async () => {
      known = new Set(await readLayers(location));
    },
  };
}
