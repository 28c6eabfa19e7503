import { type ImageSignatures, readSignatures, type SignedImage } from './bundle-signatures.ts';
import { attachmentFiles, type SubjectSignatures } from './dir-form.ts';

/**
 * The signatures of an image of a bundle as containers-storage keeps them: CRI-O asks for them when it makes a container in a namespace that has a
 * policy of its own, and looks for them nowhere else.
 * @param bundle directory of the bundle
 * @throws PrestageError ERR_BUNDLE_FILE, ERR_SIGNATURE
 */
export async function storedSignatures(bundle: string, image: SignedImage): Promise<readonly SubjectSignatures[]> {
  return (await readSignatures(bundle, image)).map(filesOf);
}

function filesOf({ subject, attachment, held }: ImageSignatures): SubjectSignatures {
  const sigstore = attachment === undefined ? [] : attachmentFiles(attachment.manifest, attachment.blobs);
  const gpg = held.flatMap((one) => (one.kind === 'gpg' ? [one.message] : []));
  return { subject, files: [...sigstore, ...gpg] };
}
