import type { Digest } from '../../model/digest.ts';
import type { RawManifest } from './resolve.ts';

/** Whether a manifest is that of a single image, which engines verify, and is not among the signed ones; lists need no signature. */
export function isUnsigned(signed: readonly Digest[]): (manifest: Pick<RawManifest, 'digest' | 'manifest'>) => boolean {
  return ({ digest, manifest }) => manifest.kind === 'image' && !signed.includes(digest);
}
