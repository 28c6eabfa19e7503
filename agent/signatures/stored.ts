import { type ImageSignatures, type ReadSignatureFile, type SignedImage, signaturesBy } from './bundle-signatures.ts';
import { attachmentFiles, type SubjectSignatures } from './dir-form.ts';

/**
 * The signatures of an image in the form of containers-storage. When CRI-O creates a container in a namespace with its own policy, it looks for
 * signatures only there.
 * @throws PrestageError ERR_SIGNATURE; what `read` throws
 */
export async function storedSignatures(image: SignedImage, read: ReadSignatureFile): Promise<readonly SubjectSignatures[]> {
  return (await signaturesBy(image, read)).map(filesOf);
}

function filesOf({ subject, attachment, held }: ImageSignatures): SubjectSignatures {
  const sigstore = attachment === undefined ? [] : attachmentFiles(attachment.manifest, attachment.blobs);
  const gpg = held.flatMap((one) => (one.kind === 'gpg' ? [one.message] : []));
  return { subject, files: [...sigstore, ...gpg] };
}
