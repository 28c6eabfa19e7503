import type { Digest } from '../model/digest.ts';
import type { Look, Unseen } from './look.ts';

/** What `status --image` decides by. */
export interface ImageFacts {
  /** In full, as engines name it: of tag and digest the digest alone. */
  readonly fullName: string;
  /** Where a pull asks, in the order in which it asks; ends with the first place that is known to have the image, or that was not looked at. */
  readonly places: Look<readonly PlaceFacts[]>;
  readonly policies: readonly PolicyFacts[];
  /** Whether storage, or a store beside it, has the image already. */
  readonly stored: Look<boolean>;
}

/** One place that a pull asks. */
export interface PlaceFacts {
  /** The image by the name that it has there. */
  readonly name: string;
  readonly kind: 'mirror' | 'source';
  readonly answer: PlaceAnswer;
}

export type PlaceAnswer =
  /** It has the manifest. */
  | { readonly kind: 'has'; readonly digest: Digest }
  /** It does not have it, is blocked, or does not answer: engines go on to the next. */
  | { readonly kind: 'not'; readonly reason: string }
  | Unseen;

/** What a policy says of the image, as the first place that has it shows it. */
export interface PolicyFacts {
  readonly file: string;
  /** Those that go by it. */
  readonly engines: readonly ('podman' | 'CRI-O')[];
  /** The namespace of CRI-O that it is for; undefined for the policy of all images. */
  readonly namespace?: string;
  /** The entry that decides; undefined if the file is missing or cannot be read. */
  readonly scope?: string;
  readonly verdict: PolicyVerdict;
}

export type PolicyVerdict =
  /** With the signatures that meet its demands; none if it demands none. */
  | { readonly kind: 'accepted'; readonly signatures: readonly AcceptedSignature[] }
  | { readonly kind: 'refused'; readonly reason: string; readonly remedy: string }
  | Unseen;

export interface AcceptedSignature {
  readonly by: 'sigstore' | 'gpg';
  /** The name that was signed. */
  readonly name: string;
  /** Of the payload, or of the OpenPGP message. */
  readonly digest: Digest;
}
