import type { Digest } from '../../model/digest.ts';
import type { RawManifest } from './resolve.ts';

/** Whether a manifest lacks a signature that engines verify: that of a single image does, a list needs none. */
export function isUnsigned(signed: readonly Digest[]): (manifest: Pick<RawManifest, 'digest' | 'manifest'>) => boolean {
  return ({ digest, manifest }) => manifest.kind === 'image' && !signed.includes(digest);
}
