import type { Digest } from '../model/digest.ts';
import type { Look, Unseen } from './look.ts';

/** What decides the answer of `status --image`. */
export interface ImageFacts {
  /** Full name, as engines use it: if it has a tag and a digest, the tag is dropped. */
  readonly fullName: string;
  /** The places that a pull asks, in that order. Ends with the first place that has the image, or that could not be checked. */
  readonly places: Look<readonly PlaceFacts[]>;
  readonly policies: readonly PolicyFacts[];
  /** Whether storage, or an additional store, has the image already. */
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
  /** It does not have the image, is blocked, or does not answer: engines try the next place. */
  | { readonly kind: 'not'; readonly reason: string }
  | Unseen;

/** What a policy says about the image as the first place that has it presents it. */
export interface PolicyFacts {
  readonly file: string;
  /** The engines that follow it. */
  readonly engines: readonly ('podman' | 'CRI-O')[];
  /** The namespace whose pods CRI-O holds to it; undefined for the policy of all images. */
  readonly namespace?: string;
  /** The entry that decides; undefined if the file is missing or cannot be read. */
  readonly scope?: string;
  readonly verdict: PolicyVerdict;
}

export type PolicyVerdict =
  /** With the signatures that meet its requirements; empty if it requires none. */
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
