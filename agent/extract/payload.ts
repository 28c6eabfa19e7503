import type { BundleImage } from '../model/bundle.ts';
import type { Digest } from '../model/digest.ts';
import type { ErrorRecord } from '../model/errors.ts';
import type { SignedImage } from '../signatures/bundle-signatures.ts';
import type { ArchivedImage } from './archives.ts';

/** One image in an OCI image layout. */
export interface LayoutImage {
  readonly kind: 'layout';
  /** As in the image list or in the index of the layout, where it names the image. */
  readonly reference: string;
  /** Full references that must resolve once the image is loaded. */
  readonly names: readonly string[];
  /** Directory of the layout. */
  readonly layout: string;
  /** Digest of the manifest or list in the index. */
  readonly digest: Digest;
  /** Factor by which its layers grow when unpacked, if the bundle says so. */
  readonly growth: number | undefined;
  /** Its attachments according to the bundle; they are in the layout. */
  readonly attachments?: NonNullable<BundleImage['attachments']>;
}

/** Signatures of an image that its bundle stores apart from the image. */
export interface SourceSignatures {
  /** Directory of the bundle. */
  readonly bundle: string;
  readonly image: SignedImage;
}

/** An image on the partition. */
export type SourceImage = (ArchivedImage | LayoutImage) & { readonly signed?: SourceSignatures };

/** The images of one stage in one form. */
export interface Payload {
  readonly kind: 'archives' | 'oci';
  /** Whether a bundle's manifest vouches for the list. */
  readonly isSealed: boolean;
  /** All references of the stage, in the order of the list. */
  readonly listed: readonly string[];
  readonly images: readonly SourceImage[];
  /** Images that cannot be loaded, with the reason. */
  readonly refused: readonly { readonly reference: string; readonly error: ErrorRecord }[];
  readonly notices: readonly string[];
}
