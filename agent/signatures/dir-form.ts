import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, hexOf } from '../model/digest.ts';
import { type Attachment, SIGSTORE_PAYLOAD_TYPE } from './attachment.ts';

/** The signatures of one manifest in the form of containers-storage and `dir:`. */
export interface SubjectSignatures {
  /** The manifest that is signed. */
  readonly subject: Digest;
  /** Contents of the signature files, in the order in which engines read them. */
  readonly files: readonly Buffer[];
}

/** First bytes of a file with a sigstore signature; a file without them is an OpenPGP message. */
export const SIGSTORE_MARK = '\0sigstore-json\n';

/**
 * The signatures of an attachment as files for `dir:` or a lookaside, one for each signature. Pure.
 * Source: containers/image, internal/signature/signature.go and sigstore.go.
 */
export function attachmentFiles(manifest: Attachment, blobs: ReadonlyMap<Digest, Buffer>): readonly Buffer[] {
  return manifest.signatures.flatMap(({ digest, annotations }) => {
    const payload = blobs.get(digest);
    if (payload === undefined) return [];
    const text = JSON.stringify({
      mimeType: SIGSTORE_PAYLOAD_TYPE,
      payload: payload.toString('base64'),
      annotations: sortKeys(annotations),
    });
    return [Buffer.from(`${SIGSTORE_MARK}${text}`)];
  });
}

/**
 * Writes signatures beside an image in `dir:` layout, so that a copy includes them.
 * Source: containers/image, directory/directory_transport.go, signaturePath.
 * @param top digest of `manifest.json`
 */
export async function writeDirSignatures(directory: string, top: Digest, signatures: readonly SubjectSignatures[]): Promise<void> {
  for (const { subject, files } of signatures) {
    const prefix = subject === top ? '' : `${hexOf(subject)}.`;
    for (const [index, bytes] of files.entries()) await writeFile(join(directory, `${prefix}signature-${index + 1}`), bytes);
  }
}

/** Sorts annotations, so that the same ones give the same bytes. */
function sortKeys(annotations: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(annotations).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
