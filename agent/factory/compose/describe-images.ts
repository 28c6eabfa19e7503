import type { BundleImage } from '../../model/bundle.ts';
import type { Digest } from '../../model/digest.ts';
import type { Descriptor } from '../../model/manifest.ts';
import { readReference } from '../../model/reference.ts';
import type { SourceAttached } from './source-attached.ts';
import type { NamedImage } from './source-image.ts';
import { bundleSignatures } from './source-signatures.ts';

/** The image as a bundle's manifest lists it. Pure. */
export function bundleImage(
  { reference, names, components, image, signatures, attached }: NamedImage,
  unpackedBytes: ReadonlyMap<Digest, number>,
): BundleImage {
  const layers = [...new Map(image.layers.map((layer) => [layer.digest, layer])).values()];
  const sum = (sizeOf: (layer: Descriptor) => number): number => layers.reduce((total, layer) => total + sizeOf(layer), 0);
  return {
    reference,
    names: [...names],
    manifestDigest: image.top.digest,
    ...(image.manifest !== image.top.digest && { instanceDigest: image.manifest }),
    ...(components && { components: [...components] }),
    ...(signatures && { signatures: signatures.flatMap(bundleSignatures) }),
    ...(attached && { attachments: attached.map(bundleAttachment) }),
    ...(image.absent && { absent: image.absent.map((one) => ({ ...one })) }),
    compressedBytes: sum((layer) => layer.sizeBytes),
    unpackedBytes: sum((layer) => unpackedBytes.get(layer.digest) ?? 0),
  };
}

function bundleAttachment({ kind, subject, manifest, artifactType }: SourceAttached): NonNullable<BundleImage['attachments']>[number] {
  return kind === 'referrer' ? { kind, subject, manifest, artifactType } : { kind, subject, manifest };
}

/** Label of a release image; no other image of a release has it. Source: openshift/oc, pkg/cli/admin/release/new.go. */
const RELEASE_LABEL = 'io.openshift.release';
/** Whether an image is labelled as a release image. Pure. */
export function isRelease({ image }: NamedImage): boolean {
  return (image.labels[RELEASE_LABEL] ?? '') !== '';
}

/** Repository of release images, and the architecture that their tags end in. */
const RELEASE_REPOSITORY = /(?:^|\/)ocp-release(?:-nightly)?$/;
const TAG_ARCHITECTURE = /-(?:x86_64|aarch64|multi|s390x|ppc64le|amd64|arm64)$/;

/** The OpenShift release that the images are of: from the label of the release image, else from its tag; empty if there is no release image. */
export function releaseOf(images: readonly NamedImage[]): string {
  const labelled = images.map(({ image }) => image.labels[RELEASE_LABEL]).find((label) => label !== undefined && label !== '');
  if (labelled !== undefined) return labelled;
  for (const { reference } of images) {
    const parsed = readReference(reference);
    if (typeof parsed === 'string' || parsed.tag === undefined || !RELEASE_REPOSITORY.test(parsed.repository)) continue;
    return parsed.tag.replace(TAG_ARCHITECTURE, '');
  }
  return '';
}

/**
 * The time to use instead of the clock, in seconds since 1970, so that the same images give the same bytes: that of the environment, else the
 * creation time of the newest image.
 * @param sourceDateEpoch SOURCE_DATE_EPOCH; reproducible-builds.org/specs/source-date-epoch
 */
export function stampOf(images: readonly NamedImage[], sourceDateEpoch: number | undefined): number {
  if (sourceDateEpoch !== undefined) return sourceDateEpoch;
  const made = images
    .map(({ image }) => Math.floor(Date.parse(image.created ?? '') / 1000))
    .filter((seconds) => seconds > 0 && seconds < 2 ** 32);
  return Math.max(0, ...made);
}
