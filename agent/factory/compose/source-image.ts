import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { layoutBlobPath, layoutImage } from '../../extract/oci-layout.ts';
import type { AbsentInstance } from '../../model/absent-instances.ts';
import { type Digest, digestOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import type { Descriptor } from '../../model/manifest.ts';
import { CONFIG_LIMIT_BYTES } from '../../model/manifest-content.ts';
import { digestSchema } from '../../model/schemas.ts';
import type { SourceAttached } from './source-attached.ts';
import type { SourceSignature } from './source-signatures.ts';

/** One image of an OCI image layout, for one architecture, as its manifests and config describe it. It is plain data and survives JSON. */
export interface SourceImage {
  /** The manifest, or the manifest list, that the reference leads to. */
  readonly top: Descriptor;
  /** Digest of the image's own manifest; that of `top` if there is no list. */
  readonly manifest: Digest;
  readonly config: Digest;
  /** Lowest first. */
  readonly layers: readonly Descriptor[];
  /** Digests of the unpacked layers, in the order of `layers`. */
  readonly diffIds: readonly Digest[];
  /** RFC 3339; left out if the config has none. */
  readonly created?: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Manifests that its list names and the layout lacks; left out if there are none. */
  readonly absent?: readonly AbsentInstance[];
}

/** An image and its full references. */
export interface NamedImage {
  /** As the list has it. */
  readonly reference: string;
  readonly names: readonly string[];
  readonly image: SourceImage;
  /** Its component names in releases that are listed, too; left out if none names it. */
  readonly components?: readonly string[];
  /** Of its manifests; left out if the layout has none. */
  readonly signatures?: readonly SourceSignature[];
  /** Attestations, SBOMs and referrers of its manifests; left out if the layout has none. */
  readonly attached?: readonly SourceAttached[];
}

/** Media types of manifests that do not state their own. Source: OCI image-spec, media-types.md. */
const OCI_TYPES = { image: 'application/vnd.oci.image.manifest.v1+json', index: 'application/vnd.oci.image.index.v1+json' } as const;

/** Source: OCI image-spec, config.md; Docker's configs have the same fields. */
const configSchema = v.object({
  created: v.nullish(v.string()),
  config: v.nullish(v.object({ Labels: v.nullish(v.record(v.string(), v.string())) })),
  rootfs: v.object({ diff_ids: v.array(digestSchema) }),
});
const manifestSchema = v.object({ mediaType: v.optional(v.string()), manifests: v.optional(v.array(v.unknown())) });

/** Digests of every blob that an image needs, manifests included, each once. */
export function blobsOf(image: SourceImage): readonly Digest[] {
  return [...new Set([image.top.digest, image.manifest, image.config, ...image.layers.map((layer) => layer.digest)])];
}

/** The distinct layers of images, in the order in which they come. */
export function layersOf(images: readonly NamedImage[]): readonly Descriptor[] {
  const all = images.flatMap(({ image }) => image.layers);
  return [...new Map(all.map((layer) => [layer.digest, layer])).values()];
}

/** Images of several lists, each once, with all its names, in the order of their first appearance. Pure. */
export function unionOf(lists: readonly (readonly NamedImage[])[]): readonly NamedImage[] {
  const byReference = new Map<string, NamedImage>();
  for (const image of lists.flat()) {
    const earlier = byReference.get(image.reference);
    byReference.set(
      image.reference,
      earlier === undefined ? image : { ...earlier, names: [...new Set([...earlier.names, ...image.names])] },
    );
  }
  return [...byReference.values()];
}

/**
 * Reads the manifests and the config of an image, each checked against its digest, and checks that all layers are there in the right size.
 * @param directory an OCI image layout
 * @param architecture GOARCH name: selects the image of a list
 * @throws PrestageError ERR_LAYOUT, ERR_LAYOUT_BLOB, ERR_MANIFEST, ERR_ARCHITECTURE, ERR_NOT_IMAGE
 */
export async function readSourceImage(directory: string, digest: Digest, architecture: string): Promise<SourceImage> {
  const { manifestDigest, image, absent } = await layoutImage(directory, digest, architecture);
  const config = await readConfig(directory, image.config.digest, image.config.sizeBytes);
  if (config.rootfs.diff_ids.length !== image.layers.length) {
    throw unreadable(
      layoutBlobPath(directory, image.config.digest),
      `it names ${config.rootfs.diff_ids.length} layers, but the manifest names ${image.layers.length}`,
    );
  }
  return {
    top: await describeManifest(directory, digest),
    manifest: manifestDigest,
    config: image.config.digest,
    layers: image.layers,
    diffIds: config.rootfs.diff_ids,
    ...(config.created && { created: config.created }),
    labels: config.config?.Labels ?? {},
    ...(absent.length > 0 && { absent }),
  };
}

/** A manifest that has been parsed already, as an index names it. */
async function describeManifest(directory: string, digest: Digest): Promise<Descriptor> {
  const bytes = await readFile(layoutBlobPath(directory, digest));
  const { mediaType, manifests } = v.parse(manifestSchema, JSON.parse(bytes.toString('utf8')));
  return { digest, sizeBytes: bytes.length, mediaType: mediaType ?? (manifests === undefined ? OCI_TYPES.image : OCI_TYPES.index) };
}

async function readConfig(directory: string, digest: Digest, sizeBytes: number): Promise<v.InferOutput<typeof configSchema>> {
  const path = layoutBlobPath(directory, digest);
  if (sizeBytes > CONFIG_LIMIT_BYTES) throw unreadable(path, `it has ${sizeBytes} bytes, more than a config may have`);
  const bytes = await readFile(path);
  const actual = digestOf(bytes);
  if (actual !== digest) throw new PrestageError('ERR_LAYOUT_BLOB', `${path} has the digest ${actual}`, PULL_AGAIN);
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), configSchema), bytes.toString('utf8'));
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw unreadable(path, `${v.getDotPath(issue) ?? 'document'} ${issue.message}`);
}

function unreadable(path: string, reason: string): PrestageError {
  return new PrestageError('ERR_LAYOUT', `${path} is not the config of an image: ${reason}`, PULL_AGAIN);
}

const PULL_AGAIN = 'Pull the images again: complete blobs are kept';
