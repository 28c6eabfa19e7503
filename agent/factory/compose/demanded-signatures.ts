import { PrestageError } from '../../model/errors.ts';
import { openshiftPolicy } from '../../signatures/openshift.ts';
import { policyEntryOf } from '../../signatures/policy.ts';
import { releaseOf } from './describe-images.ts';
import type { NamedImage } from './source-image.ts';
import { sigstoreOf } from './source-signatures.ts';

/** Images without a signature that clusters of their release demand. */
export interface UnsignedImages {
  /** As the label or the tag of the release image says it. */
  readonly release: string;
  /** References as the lists have them. */
  readonly references: readonly string[];
}

/**
 * Finds images without a signature that a cluster of the bundle's release would refuse. Does not check signatures; `verify --openshift` does.
 * Pure.
 */
export function unsignedImages(images: readonly NamedImage[]): UnsignedImages | undefined {
  const release = releaseOf(images);
  const policy = openshiftPolicy(release);
  if (policy === undefined) return undefined;
  const lacking = images.filter(({ names, image, signatures = [] }) => {
    const isDemanded = names.some((name) => policyEntryOf(policy, name).requirements.some(({ kind }) => kind === 'signed'));
    return isDemanded && !sigstoreOf(signatures).some(({ subject }) => subject === image.manifest);
  });
  const references = [...new Set(lacking.map(({ reference }) => reference))];
  return references.length === 0 ? undefined : { release, references };
}

/** The error for unsigned images. Pure. */
export function unsignedError({ release, references }: UnsignedImages): PrestageError {
  return new PrestageError(
    'ERR_BUILD_UNSIGNED',
    `${references.length} images have no signature in the folder to build from, but clusters of OpenShift ${release} demand one; first: ${references[0]}`,
    'Pull again from a source that has the signatures: prestage-agent pull --signatures require',
  );
}
