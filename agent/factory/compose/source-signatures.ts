import { readFile } from 'node:fs/promises';
import { layoutBlobPath } from '../../extract/oci-layout.ts';
import { besideImage } from '../../model/attached.ts';
import type { BundleImage } from '../../model/bundle.ts';
import { type Digest, digestOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import type { OciEntry } from '../../model/oci-layout.ts';
import { nameOf, parseReference, readReference } from '../../model/reference.ts';
import { reasonOf } from '../../model/system-error.ts';
import { parseAttachment, signatureTag, signedByTag } from '../../signatures/attachment.ts';
import type { SubjectSignatures } from '../../signatures/dir-form.ts';
import type { LookasideEntry } from '../../signatures/lookaside.ts';
import { storedSignatures } from '../../signatures/stored.ts';
import type { NamedTreeImage } from '../../tree/registry-tree.ts';
import type { NamedImage } from './source-image.ts';

/** The signatures of one manifest of an image, as the layout has them. It is plain data and survives JSON. */
export type SourceSignature = SigstoreSignature | GpgSignature;

export interface SigstoreSignature {
  readonly kind: 'sigstore';
  /** The manifest that is signed. */
  readonly subject: Digest;
  /** Of the attachment's own manifest. */
  readonly manifest: Digest;
  readonly sizeBytes: number;
  readonly config: Digest;
  readonly payloads: readonly Digest[];
}

export interface GpgSignature {
  readonly kind: 'gpg';
  /** The manifest that is signed. */
  readonly subject: Digest;
  /** OpenPGP messages, blobs of the layout, in the order in which engines read them. */
  readonly files: readonly Digest[];
}

/** The signatures of a manifest in a layout. */
export interface FoundSignatures {
  readonly attachment: OciEntry | undefined;
  readonly lookaside: LookasideEntry | undefined;
}

/** Finds the signatures in a layout by the manifest that they sign. Prefers those in a repository of the image. */
export type FindSignatures = (repositories: readonly string[], subject: Digest) => FoundSignatures;

/** Pure. */
export function signatureFinder(entries: readonly OciEntry[], lookaside: readonly LookasideEntry[]): FindSignatures {
  const found = new Map<Digest, { readonly repository: string; readonly entry: OciEntry }[]>();
  for (const entry of entries) {
    const reference = readReference(entry.reference);
    const subject = typeof reference === 'string' || reference.tag === undefined ? undefined : signedByTag(reference.tag);
    if (typeof reference === 'string' || subject === undefined) continue;
    found.set(subject, [...(found.get(subject) ?? []), { repository: nameOf(reference), entry }]);
  }
  return (repositories, subject) => {
    const nearest = <T extends { readonly repository: string }>(candidates: readonly T[]): T | undefined =>
      candidates.find(({ repository }) => repositories.includes(repository)) ?? candidates[0];
    return {
      attachment: nearest(found.get(subject) ?? [])?.entry,
      lookaside: nearest(lookaside.filter((one) => one.subject === subject)),
    };
  };
}

/** Identifies the signatures and attachments of a layout. Pure. */
export function signatureKeyOf(entries: readonly OciEntry[], lookaside: readonly LookasideEntry[]): string {
  const isBeside = ({ reference, digest }: OciEntry): boolean =>
    besideImage(reference.slice(reference.lastIndexOf(':') + 1), digest) !== undefined;
  return digestOf(JSON.stringify([entries.filter(isBeside).map(({ reference, digest }) => [reference, digest]), lookaside]));
}

/**
 * Reads the signatures of an image: of the manifest that its names lead to, and of the instance for the bundle's architecture.
 * @throws PrestageError ERR_LAYOUT_BLOB, ERR_SIGNATURE
 */
export async function readSourceSignatures(
  layout: string,
  { names, image }: Pick<NamedImage, 'names' | 'image'>,
  find: FindSignatures,
): Promise<readonly SourceSignature[]> {
  const repositories = repositoriesOf(names);
  const subjects = [...new Set([image.top.digest, image.manifest])];
  const all = await Promise.all(
    subjects.map(async (subject): Promise<readonly SourceSignature[]> => {
      const { attachment, lookaside } = find(repositories, subject);
      return [
        ...(attachment === undefined ? [] : [await readSigstore(layout, subject, attachment)]),
        ...(lookaside === undefined ? [] : [{ kind: 'gpg' as const, subject, files: lookaside.files }]),
      ];
    }),
  );
  return all.flat();
}

async function readSigstore(layout: string, subject: Digest, { digest: manifest, reference }: OciEntry): Promise<SigstoreSignature> {
  const bytes = await readBlob(layout, manifest);
  const { config, signatures } = parseAttachment(bytes.toString('utf8'), reference);
  const payloads = [...new Set(signatures.map(({ digest }) => digest))];
  return { kind: 'sigstore', subject, manifest, sizeBytes: bytes.length, config: config.digest, payloads };
}

/** Pure. */
export function sigstoreOf(signatures: readonly SourceSignature[]): readonly SigstoreSignature[] {
  return signatures.filter((one) => one.kind === 'sigstore');
}

/** All blobs of signatures, each once. Pure. */
export function signatureBlobs(images: readonly NamedImage[]): readonly Digest[] {
  const all = images.flatMap(({ signatures = [] }) =>
    signatures.flatMap((one) => (one.kind === 'gpg' ? one.files : [one.manifest, one.config, ...one.payloads])),
  );
  return [...new Set(all)].toSorted();
}

/** Sigstore signatures as a registry serves them: under the tag that names the signed manifest, in every repository of the image. Pure. */
export function signatureTreeImages(images: readonly NamedImage[]): readonly NamedTreeImage[] {
  return images.flatMap(({ names, signatures = [] }) =>
    sigstoreOf(signatures).map(
      ({ subject, manifest, config, payloads }): NamedTreeImage => ({
        names: repositoriesOf(names).map((repository) => `${repository}:${signatureTag(subject)}`),
        image: { top: { digest: manifest }, manifest, config, layers: payloads.map((digest) => ({ digest })) },
      }),
    ),
  );
}

/** A signature as a bundle names it, file by file. Pure. */
export function bundleSignatures(signature: SourceSignature): NonNullable<BundleImage['signatures']> {
  const { subject } = signature;
  if (signature.kind === 'sigstore') return [{ kind: 'sigstore', subject, manifest: signature.manifest }];
  return signature.files.map((file) => ({ kind: 'gpg' as const, subject, file }));
}

/** The signatures of an image as a store keeps them. @throws PrestageError ERR_LAYOUT_BLOB, ERR_SIGNATURE */
export async function signaturesForStore(
  layout: string,
  { reference, signatures = [] }: NamedImage,
): Promise<readonly SubjectSignatures[]> {
  const named = { reference, signatures: signatures.flatMap(bundleSignatures) };
  return await storedSignatures(named, async (digest) => await readBlob(layout, digest));
}

/** Registries and repositories of names, each once. Pure. */
export function repositoriesOf(names: readonly string[]): readonly string[] {
  return [...new Set(names.map((name) => nameOf(parseReference(name))))];
}

/** A small blob of a layout, checked against its digest. @throws PrestageError ERR_LAYOUT_BLOB */
export async function readBlob(layout: string, digest: Digest): Promise<Buffer> {
  const path = layoutBlobPath(layout, digest);
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError('ERR_LAYOUT_BLOB', `${path} cannot be read: ${reasonOf(cause)}`, PULL_AGAIN, { cause });
  });
  if (digestOf(bytes) === digest) return bytes;
  throw new PrestageError('ERR_LAYOUT_BLOB', `${path} has the digest ${digestOf(bytes)}`, PULL_AGAIN);
}

const PULL_AGAIN = 'Pull the images again: complete blobs are kept';
