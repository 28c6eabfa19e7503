import type { BundleImage } from '../model/bundle.ts';
import type { Digest } from '../model/digest.ts';
import type { ErrorRecord } from '../model/errors.ts';
import type { SignedImage } from '../signatures/bundle-signatures.ts';
import type { ArchivedImage } from './archives.ts';

/** One image that lies in an OCI image layout. */
export interface LayoutImage {
  readonly kind: 'layout';
  /** As the list or the layout's index has it; names the image there. */
  readonly reference: string;
  /** Full references that must resolve once it is loaded. */
  readonly names: readonly string[];
  /** Directory of the layout. */
  readonly layout: string;
  /** Of the manifest or list that the index names. */
  readonly digest: Digest;
  /** How much its layers grow when they are unpacked, where a bundle says so. */
  readonly growth: number | undefined;
  /** What a bundle names as attached to it; it lies in the layout. */
  readonly attachments?: NonNullable<BundleImage['attachments']>;
}

/** The signatures of an image that its bundle has, apart from the image itself. */
export interface SourceSignatures {
  /** Directory of the bundle. */
  readonly bundle: string;
  readonly image: SignedImage;
}

/** An image as it lies on the partition. */
export type SourceImage = (ArchivedImage | LayoutImage) & { readonly signed?: SourceSignatures };

/** The images of one stage in one form. */
export interface Payload {
  readonly kind: 'archives' | 'oci';
  /** Whether a bundle's manifest vouches for the list. */
  readonly isSealed: boolean;
  /** All references of the stage, in their order. */
  readonly listed: readonly string[];
  readonly images: readonly SourceImage[];
  /** Images that cannot be loaded, with the reason. */
  readonly refused: readonly { readonly reference: string; readonly error: ErrorRecord }[];
  readonly notices: readonly string[];
}
