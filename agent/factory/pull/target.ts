import type { Digest } from '../../model/digest.ts';
import type { LookasideEntry } from '../../signatures/lookaside.ts';
import type { BlobStore } from '../shared/blob-store.ts';
import type { NamedTag } from './attached-finder.ts';
import type { PulledAttachment } from './attachments.ts';
import type { PullStep } from './plan.ts';
import type { ResolvedImage } from './resolve.ts';

/** Signatures and attachments that were found for an image. */
export interface PulledBeside {
  readonly attachments: readonly PulledAttachment[];
  readonly lookaside: readonly LookasideEntry[];
  /** Attestations, SBOMs and lists of referrers. */
  readonly attached: readonly NamedTag[];
}

/** A folder that images are pulled into, in one format. */
export interface PullTarget {
  /** Receives blobs as they arrive. */
  readonly store: BlobStore;
  /** Whether the folder holds exactly this image in its final form, every byte compared; then nothing is done for it. */
  isDelivered(image: ResolvedImage): Promise<boolean>;
  /** Bytes that the steps write besides the blobs that are fetched. */
  extraBytes(steps: readonly PullStep[]): number;
  /** The digest of signatures or an attachment in the folder, by name; undefined if there are none, or the format has no place for them. */
  attachmentOf(reference: string): Digest | undefined;
  /** The GPG signatures that the folder has of a manifest in a repository. */
  lookasideOf(repository: string, subject: Digest): LookasideEntry | undefined;
  /** Writes an image in its final form; its blobs, signatures and attachments must all be in the store. */
  deliver(image: ResolvedImage, beside: PulledBeside): Promise<void>;
  /** Completes the folder when all images have been tried. */
  finish(): Promise<void>;
}
