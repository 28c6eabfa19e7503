import type { Digest } from '../../model/digest.ts';
import type { LookasideEntry } from '../../signatures/lookaside.ts';
import type { BlobStore } from '../shared/blob-store.ts';
import type { NamedTag } from './attached-finder.ts';
import type { PulledAttachment } from './attachments.ts';
import type { PullStep } from './plan.ts';
import type { ResolvedImage } from './resolve.ts';

/** What was found beside an image. */
export interface PulledBeside {
  readonly attachments: readonly PulledAttachment[];
  readonly lookaside: readonly LookasideEntry[];
  /** Attestations, SBOMs and lists of referrers. */
  readonly attached: readonly NamedTag[];
}

/** A folder that images are pulled into, in one form. */
export interface PullTarget {
  /** Where blobs go as they come. */
  readonly store: BlobStore;
  /** Whether the folder holds exactly this image in its final form, every byte compared; then nothing is done for it. */
  isDelivered(image: ResolvedImage): Promise<boolean>;
  /** Bytes that the steps write besides the blobs that are fetched. */
  extraBytes(steps: readonly PullStep[]): number;
  /** What lies in the folder under a name: signatures, or something else beside an image; undefined if it has none, or has no place for any. */
  attachmentOf(reference: string): Digest | undefined;
  /** The GPG signatures that the folder has of a manifest in a repository. */
  lookasideOf(repository: string, subject: Digest): LookasideEntry | undefined;
  /** Brings an image, whose blobs and what lies beside it are all in the store, into its final form. */
  deliver(image: ResolvedImage, beside: PulledBeside): Promise<void>;
  /** Ends the work, when all images have been tried. */
  finish(): Promise<void>;
}
