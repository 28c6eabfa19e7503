import { readFile } from 'node:fs/promises';
import { layoutBlobPath } from '../../extract/oci-layout.ts';
import type { NamedTreeImage } from '../../extract/registry-tree.ts';
import { type Digest, digestOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import type { OciEntry } from '../../model/oci-layout.ts';
import { nameOf, parseReference, readReference } from '../../model/reference.ts';
import { type Attachment, parseAttachment, signatureTag, signedByTag } from '../../signatures/attachment.ts';
import { attachmentFiles, type SubjectSignatures } from '../../signatures/dir-form.ts';
import type { NamedImage } from './source-image.ts';

/** The sigstore signatures of one manifest of an image, as the layout has them. It is plain data and survives JSON. */
export interface SourceSignature {
  /** The manifest that is signed. */
  readonly subject: Digest;
  /** Of the attachment's own manifest. */
  readonly manifest: Digest;
  readonly sizeBytes: number;
  readonly config: Digest;
  readonly payloads: readonly Digest[];
}

/** The attachments of a layout by the manifest that they sign; of several, that of the repository first. */
export type FindSignatures = (repositories: readonly string[], subject: Digest) => OciEntry | undefined;

/** Pure. */
export function signatureFinder(entries: readonly OciEntry[]): FindSignatures {
  const found = new Map<Digest, { readonly repository: string; readonly entry: OciEntry }[]>();
  for (const entry of entries) {
    const reference = readReference(entry.reference);
    const subject = typeof reference === 'string' || reference.tag === undefined ? undefined : signedByTag(reference.tag);
    if (typeof reference === 'string' || subject === undefined) continue;
    found.set(subject, [...(found.get(subject) ?? []), { repository: nameOf(reference), entry }]);
  }
  return (repositories, subject) => {
    const candidates = found.get(subject) ?? [];
    return (candidates.find(({ repository }) => repositories.includes(repository)) ?? candidates[0])?.entry;
  };
}

/** What names the signatures of a layout. Pure. */
export function signatureKeyOf(entries: readonly OciEntry[]): string {
  const signatures = entries.filter(({ reference }) => signedByTag(reference.slice(reference.lastIndexOf(':') + 1)) !== undefined);
  return digestOf(JSON.stringify(signatures.map(({ reference, digest }) => [reference, digest])));
}

/**
 * Reads the attachments of an image: of the manifest that its names lead to, and of the instance for the bundle's architecture.
 * @throws PrestageError ERR_LAYOUT_BLOB, ERR_SIGNATURE
 */
export async function readSourceSignatures(
  layout: string,
  { names, image }: Pick<NamedImage, 'names' | 'image'>,
  find: FindSignatures,
): Promise<readonly SourceSignature[]> {
  const repositories = repositoriesOf(names);
  const subjects = [...new Set([image.top.digest, image.manifest])];
  const found = subjects.flatMap((subject) => {
    const entry = find(repositories, subject);
    return entry === undefined ? [] : [{ subject, entry }];
  });
  return await Promise.all(
    found.map(async ({ subject, entry }): Promise<SourceSignature> => {
      const bytes = await readBlob(layout, entry.digest);
      const { config, signatures } = parseAttachment(bytes.toString('utf8'), entry.reference);
      const payloads = [...new Set(signatures.map(({ digest }) => digest))];
      return { subject, manifest: entry.digest, sizeBytes: bytes.length, config: config.digest, payloads };
    }),
  );
}

/** All blobs of signatures, each once. Pure. */
export function signatureBlobs(images: readonly NamedImage[]): readonly Digest[] {
  const all = images.flatMap(({ signatures = [] }) =>
    signatures.flatMap(({ manifest, config, payloads }) => [manifest, config, ...payloads]),
  );
  return [...new Set(all)].toSorted();
}

/** Signatures as a registry serves them: under the tag that names what is signed, in every repository of the image. Pure. */
export function signatureTreeImages(images: readonly NamedImage[]): readonly NamedTreeImage[] {
  return images.flatMap(({ names, signatures = [] }) =>
    signatures.map(
      ({ subject, manifest, config, payloads }): NamedTreeImage => ({
        names: repositoriesOf(names).map((repository) => `${repository}:${signatureTag(subject)}`),
        image: { top: { digest: manifest }, manifest, config, layers: payloads.map((digest) => ({ digest })) },
      }),
    ),
  );
}

/** The signatures of an image as a store keeps them. @throws PrestageError ERR_LAYOUT_BLOB, ERR_SIGNATURE */
export async function storedSignatures(layout: string, { reference, signatures = [] }: NamedImage): Promise<readonly SubjectSignatures[]> {
  return await Promise.all(
    signatures.map(async ({ subject, manifest, payloads }): Promise<SubjectSignatures> => {
      const attachment: Attachment = parseAttachment((await readBlob(layout, manifest)).toString('utf8'), reference);
      const blobs = await Promise.all(payloads.map(async (digest) => [digest, await readBlob(layout, digest)] as const));
      return { subject, files: attachmentFiles(attachment, new Map(blobs)) };
    }),
  );
}

function repositoriesOf(names: readonly string[]): readonly string[] {
  return [...new Set(names.map((name) => nameOf(parseReference(name))))];
}

async function readBlob(layout: string, digest: Digest): Promise<Buffer> {
  const path = layoutBlobPath(layout, digest);
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError('ERR_LAYOUT_BLOB', `${path} cannot be read: ${cause.code ?? cause.message}`, PULL_AGAIN, { cause });
  });
  if (digestOf(bytes) === digest) return bytes;
  throw new PrestageError('ERR_LAYOUT_BLOB', `${path} has the bytes of ${digestOf(bytes)}`, PULL_AGAIN);
}

const PULL_AGAIN = 'Pull the images again: what is whole is kept';
