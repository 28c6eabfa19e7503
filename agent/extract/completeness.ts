import type { Digest } from '../model/digest.ts';
import type { Descriptor, ImageManifest, IndexManifest } from '../model/manifest.ts';
import { archiveFault } from './archive-faults.ts';
import type { FoundManifest } from './archive-manifests.ts';

/** What an archive was found to hold. */
export interface ArchiveContents {
  readonly hasVersion: boolean;
  readonly manifests: readonly FoundManifest[];
  /** Sizes in bytes of the blobs, by digest. */
  readonly blobs: ReadonlyMap<Digest, number>;
}

/** Faults that a message names; of more it gives the number. */
const NAMED_FAULTS = 5;

/**
 * Checks that an archive has `version`, and every blob that any of its manifests names, in the size that the manifest says. A list may name
 * images whose manifests are not in the archive, as a copy without the other platforms does; those that are there are held to their size.
 * @param path of the archive, for messages
 * @throws PrestageError ERR_ARCHIVE_MEMBER, ERR_ARCHIVE_BLOB_SIZE, with all faults of the kind
 */
export function checkComplete(contents: ArchiveContents, path: string): void {
  const missing = [...missingMembers(contents)];
  if (missing.length > 0) throw archiveFault('ERR_ARCHIVE_MEMBER', path, `lacks ${listed(missing)}`);
  const wrong = [...wrongSizes(contents)];
  if (wrong.length > 0) throw archiveFault('ERR_ARCHIVE_BLOB_SIZE', path, listed(wrong));
}

function* missingMembers({ hasVersion, manifests, blobs }: ArchiveContents): Generator<string> {
  if (!hasVersion) yield 'version';
  for (const { file, manifest } of manifests) {
    for (const { digest } of blobsOf(manifest)) if (!blobs.has(digest)) yield `blob ${digest}, which ${file} names`;
  }
}

function* wrongSizes({ manifests, blobs }: ArchiveContents): Generator<string> {
  const sizes = new Map([...blobs, ...manifests.map(({ digest, sizeBytes }) => [digest, sizeBytes] as const)]);
  for (const { file, manifest } of manifests) {
    for (const { digest, sizeBytes } of manifest.kind === 'index' ? manifest.instances : blobsOf(manifest)) {
      const actual = sizes.get(digest);
      if (actual !== undefined && actual !== sizeBytes) yield `${digest} has ${actual} bytes, and ${file} says ${sizeBytes}`;
    }
  }
}

function blobsOf(manifest: ImageManifest | IndexManifest): readonly Descriptor[] {
  return manifest.kind === 'index' ? [] : [manifest.config, ...manifest.layers];
}

function listed(faults: readonly string[]): string {
  const named = faults.slice(0, NAMED_FAULTS).join('; ');
  return faults.length > NAMED_FAULTS ? `${named}; and ${faults.length - NAMED_FAULTS} more` : named;
}
