import { OCI_MANIFEST_TYPE } from '../../model/attached.ts';
import { hexOf } from '../../model/digest.ts';
import { formatOciIndex, OCI_INDEX_FILE, OCI_MARKER, OCI_MARKER_FILE, type OciEntry } from '../../model/oci-layout.ts';
import type { TreeFile } from '../../tree/tree-files.ts';
import { attachedBlobs, attachedEntries } from './source-attached.ts';
import { blobsOf, type NamedImage } from './source-image.ts';
import { signatureBlobs, signatureTreeImages, sigstoreOf } from './source-signatures.ts';

/**
 * The files of one OCI image layout with all images, each under all its full references, and each blob once. Of a manifest list it holds the
 * list itself and the image for the bundle's architecture. `index.json` keeps the order of the images. Pure.
 * Source: OCI image-spec, image-layout.md.
 */
export function ociTree(images: readonly NamedImage[]): readonly TreeFile[] {
  const entries = new Map(
    images.flatMap(({ names, image }) => names.map((reference) => [reference, { reference, ...image.top }] as const)),
  );
  const beside = [...images.flatMap((one) => signatureEntries(one)), ...attachedEntries(images)];
  const digests = new Set([...images.flatMap(({ image }) => blobsOf(image)), ...signatureBlobs(images), ...attachedBlobs(images).keys()]);
  return [
    ...[...digests].toSorted().map((digest) => ({ path: `blobs/sha256/${hexOf(digest)}`, blob: digest })),
    {
      path: OCI_INDEX_FILE,
      text: formatOciIndex([...entries.values(), ...new Map(beside.map((entry) => [entry.reference, entry])).values()]),
    },
    { path: OCI_MARKER_FILE, text: OCI_MARKER },
  ];
}

/** Index entries of signatures, under the tags that they have in a registry. */
function signatureEntries(image: NamedImage): readonly OciEntry[] {
  const sizes = new Map(sigstoreOf(image.signatures ?? []).map(({ manifest, sizeBytes }) => [manifest, sizeBytes]));
  return signatureTreeImages([image]).flatMap(({ names, image: { manifest } }) =>
    names.map((reference) => ({ reference, digest: manifest, sizeBytes: sizes.get(manifest) ?? 0, mediaType: OCI_MANIFEST_TYPE })),
  );
}
