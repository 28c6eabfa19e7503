import type { Digest } from '../model/digest.ts';
import type { Descriptor, ImageManifest, IndexManifest } from '../model/manifest.ts';
import { archiveFault } from './archive-faults.ts';
import type { FoundManifest } from './archive-manifests.ts';

/** Content found in an archive. */
export interface ArchiveContents {
  readonly hasVersion: boolean;
  readonly manifests: readonly FoundManifest[];
  /** Sizes in bytes of the blobs, by digest. */
  readonly blobs: ReadonlyMap<Digest, number>;
}

/** Most faults that a message names; of the rest only the number is given. */
const NAMED_FAULTS = 5;

/**
 * Checks that an archive has `version` and every blob that its manifests name, in the size that the manifest says. Images in a list may be missing
 * with their manifests, because a copy for one platform leaves out the others; manifests that exist must have the right size.
 * @param path of the archive, for messages
 * @throws PrestageError ERR_ARCHIVE_MEMBER, ERR_ARCHIVE_BLOB_SIZE, with all faults of that kind
 */
export function checkComplete(contents: ArchiveContents, path: string): void {
  const missing = [...missingMembers(contents)];
  if (missing.length > 0) throw archiveFault('ERR_ARCHIVE_MEMBER', path, `lacks ${joinFaults(missing)}`);
  const wrong = [...wrongSizes(contents)];
  if (wrong.length > 0) throw archiveFault('ERR_ARCHIVE_BLOB_SIZE', path, joinFaults(wrong));
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
      if (actual !== undefined && actual !== sizeBytes) yield `${digest} has ${actual} bytes, but ${file} says ${sizeBytes}`;
    }
  }
}

function blobsOf(manifest: ImageManifest | IndexManifest): readonly Descriptor[] {
  return manifest.kind === 'index' ? [] : [manifest.config, ...manifest.layers];
}

function joinFaults(faults: readonly string[]): string {
  const named = faults.slice(0, NAMED_FAULTS).join('; ');
  return faults.length > NAMED_FAULTS ? `${named}; and ${faults.length - NAMED_FAULTS} more` : named;
}
