import { type ImageSignatures, type ReadSignatureFile, type SignedImage, signaturesBy } from './bundle-signatures.ts';
import { attachmentFiles, type SubjectSignatures } from './dir-form.ts';

/**
 * The signatures of an image as containers-storage keeps them: CRI-O asks for them when it makes a container in a namespace that has a
 * policy of its own, and looks for them nowhere else.
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
