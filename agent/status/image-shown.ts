import { type Host, hostPath } from '../host/host.ts';
import type { Digest } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { instanceFor, MANIFEST_LIMIT_BYTES, parseManifest } from '../model/manifest.ts';
import { askRegistry, type RegistryTarget } from '../registry/serve/ask-registry.ts';
import { PAYLOAD_LIMIT_BYTES, parseAttachment, signatureTag } from '../signatures/attachment.ts';
import { heldOf } from '../signatures/bundle-signatures.ts';
import type { HeldSignature } from '../signatures/judge.ts';
import { readRegistriesDInForce } from '../signatures/own-registries-d.ts';
import { type SignatureSource, signatureSourceOf } from '../signatures/registries-d.ts';
import { messagesIn } from '../tree/tree-signatures.ts';
import { look, type Unseen } from './look.ts';

/** An image as a registry presents it to an engine of this machine. */
export interface ShownByRegistry {
  /** Digest of the manifest or list that the name resolves to. */
  readonly digest: Digest;
  /** Digest of the manifest that a policy checks: for a list, that of the instance for this machine. */
  readonly verified: Digest;
  readonly signatures: ShownSignatures;
}

/** The registry has a list, but not the image for this machine: engines that read the list there fail, and ask no other registry. */
export interface LacksPlatform {
  /** Continues the name of the registry. */
  readonly lacks: string;
}

/** The signatures that engines find, by kind: engines look for each kind in a different place. */
export interface ShownSignatures {
  readonly sigstore: FoundSignatures;
  readonly gpg: FoundSignatures;
}

export type FoundSignatures =
  | { readonly kind: 'found'; readonly held: readonly HeldSignature[] }
  /** Engines fail here, whatever the policy says about signatures. */
  | { readonly kind: 'fault'; readonly reason: string; readonly remedy: string }
  | Unseen;

/** Where engines look for GPG signatures if no file configures a place. Source: containers/image, docker/registries_d.go. */
const DEFAULT_LOOKASIDE = 'file:///var/lib/containers/sigstore';

/**
 * Asks a registry for an image and its signatures, as an engine does.
 * @param place the image by the name that it has there: `host:port/repository@sha256:…`
 * @returns undefined if the registry does not have it
 * @throws PrestageError ERR_REGISTRY_START, ERR_LAYOUT
 */
export async function askForImage(host: Host, target: RegistryTarget, place: string): Promise<ShownByRegistry | LacksPlatform | undefined> {
  const { repository, name } = splitPlace(place);
  const top = await askRegistry(target, { repository, name, kind: 'manifests', limitBytes: MANIFEST_LIMIT_BYTES });
  if (top === undefined) return undefined;
  const manifest = parseManifest(top.bytes, place);
  const verified = manifest.kind === 'image' ? top.digest : instanceFor(manifest, host.architecture)?.digest;
  const platform = `linux/${host.architecture}`;
  if (verified === undefined) return { lacks: `its list ${top.digest} has no image for ${platform}` };
  if (verified !== top.digest) {
    const own = await askRegistry(target, { repository, name: verified, kind: 'manifests', limitBytes: MANIFEST_LIMIT_BYTES });
    if (own === undefined) return { lacks: `it has the list ${top.digest}, but not ${verified}, which the list names for ${platform}` };
  }
  return { digest: top.digest, verified, signatures: await findSignatures(host, target, { place, repository, verified }) };
}

interface Subject {
  readonly place: string;
  readonly repository: string;
  readonly verified: Digest;
}

async function findSignatures(host: Host, target: RegistryTarget, subject: Subject): Promise<ShownSignatures> {
  const places = await look(async () => await readRegistriesDInForce(host));
  if (places.kind === 'unseen') return { sigstore: places, gpg: places };
  const source = signatureSourceOf(places.value, subject.place);
  return { sigstore: await attachedSignatures(target, subject, source), gpg: await lookasideSignatures(host, subject, source) };
}

async function attachedSignatures(
  target: RegistryTarget,
  { repository, verified, place }: Subject,
  { usesAttachments }: SignatureSource,
): Promise<FoundSignatures> {
  if (!usesAttachments) return { kind: 'found', held: [] };
  try {
    const name = signatureTag(verified);
    const manifest = await askRegistry(target, { repository, name, kind: 'manifests', limitBytes: MANIFEST_LIMIT_BYTES });
    if (manifest === undefined) return { kind: 'found', held: [] };
    const attachment = parseAttachment(manifest.bytes.toString('utf8'), place);
    const blobs = new Map<Digest, Buffer>();
    for (const { digest } of attachment.signatures) {
      const blob = await askRegistry(target, { repository, name: digest, kind: 'blobs', limitBytes: PAYLOAD_LIMIT_BYTES });
      if (blob === undefined) return missingPayload(digest);
      blobs.set(digest, blob.bytes);
    }
    return { kind: 'found', held: heldOf(attachment, blobs) };
  } catch (error) {
    if (!(error instanceof PrestageError)) throw error;
    return { kind: 'fault', reason: error.message, remedy: error.remedy };
  }
}

function missingPayload(digest: Digest): FoundSignatures {
  return {
    kind: 'fault',
    reason: `the registry lacks ${digest}, the payload of a signature`,
    remedy: 'Write the bundle to the partition again at the factory',
  };
}

async function lookasideSignatures(
  host: Host,
  { repository, verified }: Subject,
  { lookaside }: SignatureSource,
): Promise<FoundSignatures> {
  const base = lookaside ?? DEFAULT_LOOKASIDE;
  if (!base.startsWith('file:///')) {
    return { kind: 'unseen', reason: `the GPG signatures at ${base} were not checked`, remedy: 'Test it with a pull: podman pull' };
  }
  const directory = hostPath(host, base.slice('file://'.length));
  return { kind: 'found', held: await messagesIn(directory, repository, verified) };
}

/** Host, repository, and tag or digest of a full name. */
export function splitPlace(place: string): { readonly address: string; readonly repository: string; readonly name: string } {
  const slash = place.indexOf('/');
  const path = place.slice(slash + 1);
  const at = path.includes('@') ? path.indexOf('@') : path.lastIndexOf(':');
  return { address: place.slice(0, slash), repository: path.slice(0, at), name: path.slice(at + 1) };
}
