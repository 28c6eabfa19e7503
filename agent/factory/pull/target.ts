import type { Digest } from '../../model/digest.ts';
import type { PulledAttachment } from './attachments.ts';
import type { BlobStore } from './blob-store.ts';
import type { PullStep } from './plan.ts';
import type { ResolvedImage } from './resolve.ts';

/** A folder that images are pulled into, in one form. */
export interface PullTarget {
  /** Where blobs go as they come. */
  readonly store: BlobStore;
  /** Whether the folder holds exactly this image in its final form, every byte compared; then nothing is done for it. */
  isDelivered(image: ResolvedImage): Promise<boolean>;
  /** Bytes that the steps write besides the blobs that are fetched. */
  extraBytes(steps: readonly PullStep[]): number;
  /** The signatures that lie in the folder under a name; undefined if it has none, or has no place for any. */
  attachmentOf(reference: string): Digest | undefined;
  /** Brings an image, whose blobs and signatures are all in the store, into its final form. */
  deliver(image: ResolvedImage, attachments: readonly PulledAttachment[]): Promise<void>;
  /** Ends the work, when all images have been tried. */
  finish(): Promise<void>;
}
