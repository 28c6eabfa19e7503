import { join } from 'node:path';
import { readPlainFile } from '../host/plain-file.ts';
import { type BundleImage, signaturePath } from '../model/bundle.ts';
import { type Digest, digestOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { type Attachment, PAYLOAD_LIMIT_BYTES, parseAttachment } from './attachment.ts';
import type { HeldSignature } from './judge.ts';

/** The signatures of an image as listed in its bundle. */
export type SignedImage = Pick<BundleImage, 'reference' | 'signatures'>;

/** The signatures of one manifest of an image, with their bytes. */
export interface ImageSignatures {
  /** The manifest that is signed. */
  readonly subject: Digest;
  readonly held: readonly HeldSignature[];
  /** The attachment beside the image in a registry; undefined if the image has only GPG signatures. */
  readonly attachment: { readonly digest: Digest; readonly manifest: Attachment; readonly blobs: ReadonlyMap<Digest, Buffer> } | undefined;
}

/** Whether an image of a bundle has sigstore signatures, which are stored beside it in a registry. Pure. */
export function hasSigstore({ signatures = [] }: Pick<SignedImage, 'signatures'>): boolean {
  return signatures.some(({ kind }) => kind === 'sigstore');
}

/**
 * Reads the signatures of an image from a bundle. Every file is compared with its digest.
 * @param bundle directory of the bundle
 * @throws PrestageError ERR_BUNDLE_FILE, ERR_SIGNATURE
 */
export async function readSignatures(bundle: string, image: SignedImage): Promise<readonly ImageSignatures[]> {
  return await signaturesBy(image, async (digest) => await readSignatureFile(bundle, digest));
}

/** Returns the bytes of a signature file, which match the digest. */
export type ReadSignatureFile = (digest: Digest) => Promise<Buffer>;

/**
 * Reads the signatures of an image from any place.
 * @throws PrestageError ERR_SIGNATURE; what `read` throws
 */
export async function signaturesBy(image: SignedImage, read: ReadSignatureFile): Promise<readonly ImageSignatures[]> {
  const named = image.signatures ?? [];
  const subjects = [...new Set(named.map(({ subject }) => subject))];
  return await Promise.all(
    subjects.map(async (subject) => {
      const own = named.filter((one) => one.subject === subject);
      const gpg = await Promise.all(own.flatMap((one) => (one.kind === 'gpg' ? [one.file] : [])).map(read));
      const manifest = own.find((one) => one.kind === 'sigstore')?.manifest;
      const attachment = manifest === undefined ? undefined : await readAttachment(read, manifest, image.reference);
      return {
        subject,
        attachment,
        held: [
          ...(attachment === undefined ? [] : heldOf(attachment.manifest, attachment.blobs)),
          ...gpg.map((message): HeldSignature => ({ kind: 'gpg', message })),
        ],
      };
    }),
  );
}

/** The signatures of an attachment in the form for checking. Pure. */
export function heldOf(manifest: Attachment, blobs: ReadonlyMap<Digest, Buffer>): readonly HeldSignature[] {
  return manifest.signatures.flatMap(({ digest, signature }): readonly HeldSignature[] => {
    const payload = blobs.get(digest);
    return payload === undefined ? [] : [{ kind: 'sigstore', payload, signature }];
  });
}

async function readAttachment(
  read: ReadSignatureFile,
  digest: Digest,
  reference: string,
): Promise<NonNullable<ImageSignatures['attachment']>> {
  const bytes = await read(digest);
  const manifest = parseAttachment(bytes.toString('utf8'), reference);
  const wanted = [...new Set([manifest.config.digest, ...manifest.signatures.map((one) => one.digest)])];
  const blobs = await Promise.all(wanted.map(async (blob) => [blob, await read(blob)] as const));
  return { digest, manifest, blobs: new Map([[digest, bytes], ...blobs]) };
}

/**
 * Reads a signature file and compares it with its digest. No link is followed.
 * @throws PrestageError ERR_BUNDLE_FILE
 */
export async function readSignatureFile(bundle: string, digest: Digest): Promise<Buffer> {
  const path = join(bundle, signaturePath(digest));
  const bytes = await readPlainFile(path, PAYLOAD_LIMIT_BYTES);
  if (bytes === undefined) throw damageError(path, `it is missing, or is not a regular file of at most ${PAYLOAD_LIMIT_BYTES} bytes`);
  if (digestOf(bytes) !== digest) throw damageError(path, `it has the digest ${digestOf(bytes)}`);
  return bytes;
}

function damageError(path: string, what: string): PrestageError {
  return new PrestageError(
    'ERR_BUNDLE_FILE',
    `${path} is not the signature in the manifest of the bundle: ${what}`,
    'Write the bundle again at the factory',
  );
}
