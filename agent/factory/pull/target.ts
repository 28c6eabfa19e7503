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
  /** Brings an image, whose blobs are all in the store, into its final form. */
  deliver(image: ResolvedImage): Promise<void>;
  /** Ends the work, when all images have been tried. */
  finish(): Promise<void>;
}
