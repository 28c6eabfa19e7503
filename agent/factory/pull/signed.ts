import type { Digest } from '../../model/digest.ts';
import type { RawManifest } from './resolve.ts';

/** Whether a manifest is that of a single image and is not among the signed ones. Engines verify single images; lists need no signature. */
export function isUnsigned(signed: readonly Digest[]): (manifest: Pick<RawManifest, 'digest' | 'manifest'>) => boolean {
  return ({ digest, manifest }) => manifest.kind === 'image' && !signed.includes(digest);
}
