import * as v from 'valibot';
import type { Digest } from './digest.ts';
import { PrestageError } from './errors.ts';
import { listFaults } from './faults.ts';
import { digestSchema } from './schemas.ts';

/** A blob or manifest that a manifest names. Sizes are bytes. */
export interface Descriptor {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Foreign (non-distributable) layers have their own media type; in an archive their blobs are stored like the others. */
  readonly mediaType: string;
}

/** One image: its config and its layers, lowest first. A layer can occur twice. */
export interface ImageManifest {
  readonly kind: 'image';
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

/** One image of an index. Platform fields that the index leaves out are empty. */
interface IndexInstance extends Descriptor {
  readonly os: string;
  /** GOARCH name. */
  readonly architecture: string;
  readonly variant: string;
}

/** A manifest list or image index: one image per platform. */
export interface IndexManifest {
  readonly kind: 'index';
  readonly instances: readonly IndexInstance[];
}

/** containers/image refuses larger manifests (internal/iolimits, MaxManifestBodySize). */
export const MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024;

const descriptorSchema = v.object({
  mediaType: v.optional(v.string(), ''),
  digest: digestSchema,
  size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
});
const imageSchema = v.object({ schemaVersion: v.literal(2), config: descriptorSchema, layers: v.array(descriptorSchema) });
const platformSchema = v.object({ os: v.string(), architecture: v.string(), variant: v.optional(v.string(), '') });
const indexSchema = v.object({
  schemaVersion: v.literal(2),
  manifests: v.array(
    v.object({ ...descriptorSchema.entries, platform: v.optional(platformSchema, { os: '', architecture: '', variant: '' }) }),
  ),
});

/**
 * Variants of an architecture that its machines accept, best first, in the order of containers/image (internal/pkg/platform, WantedPlatforms,
 * for the variant that an arm64 machine reports). Other architectures accept only the image without a variant.
 */
const VARIANTS: ReadonlyMap<string, readonly string[]> = new Map([['arm64', ['v8', '']]]);

/**
 * Reads a manifest: OCI image manifest or index, Docker schema 2 manifest or list.
 * Source: OCI image-spec manifest.md and image-index.md; distribution, "Image Manifest V 2, Schema 2".
 * @param where description of the bytes, for the message
 * @throws PrestageError ERR_MANIFEST
 */
export function parseManifest(bytes: Uint8Array, where: string): ImageManifest | IndexManifest {
  if (bytes.length > MANIFEST_LIMIT_BYTES) {
    throw unusable(`${where} has ${bytes.length} bytes, more than the limit of ${MANIFEST_LIMIT_BYTES} for a manifest`);
  }
  const json = parseJson(bytes, where);
  const keys = new Set(typeof json === 'object' && json !== null ? Object.keys(json) : []);
  if (keys.has('fsLayers')) {
    throw unusable(`${where} is a Docker schema 1 manifest, which has no config and cannot be loaded by digest`);
  }
  if (!keys.has('manifests')) {
    const image = v.safeParse(imageSchema, json);
    if (!image.success) throw unreadable(where, image.issues);
    return { kind: 'image', config: descriptor(image.output.config), layers: image.output.layers.map(descriptor) };
  }
  // Such a document could be read as either, as two images under one digest (CVE-2021-41190).
  if (keys.has('config') || keys.has('layers')) throw unusable(`${where} is ambiguous: it is both an image manifest and an index`);
  const index = v.safeParse(indexSchema, json);
  if (!index.success) throw unreadable(where, index.issues);
  return { kind: 'index', instances: index.output.manifests.map((instance) => ({ ...descriptor(instance), ...instance.platform })) };
}

/**
 * The instance of an index for a Linux machine of an architecture (GOARCH name), as skopeo picks it without `--all`: the first instance of the
 * best matching variant; otherwise the first instance without a platform. Images only for newer variants (`amd64/v2`) are not accepted.
 */
export function instanceFor(index: IndexManifest, architecture: string): Descriptor | undefined {
  const variants = VARIANTS.get(architecture) ?? [''];
  const fitting = index.instances.filter((instance) => instance.os === 'linux' && instance.architecture === architecture);
  for (const variant of variants) {
    const match = fitting.find((instance) => instance.variant === variant);
    if (match) return match;
  }
  return index.instances.find((instance) => instance.os === '' && instance.architecture === '');
}

function descriptor(raw: v.InferOutput<typeof descriptorSchema>): Descriptor {
  return { digest: raw.digest, sizeBytes: raw.size, mediaType: raw.mediaType };
}

function parseJson(bytes: Uint8Array, where: string): unknown {
  try {
    // The tools that load the image also refuse a byte order mark.
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw unusable(`${where} is not JSON: ${String(cause)}`, { cause });
  }
}

function unreadable(where: string, issues: readonly v.BaseIssue<unknown>[]): PrestageError {
  const faults = issues.map((issue) => `${where} is not an image manifest: ${v.getDotPath(issue) ?? 'manifest'}: ${issue.message}`);
  return unusable(listFaults(`${where} is not an image manifest`, faults));
}

function unusable(message: string, options?: ErrorOptions): PrestageError {
  return new PrestageError('ERR_MANIFEST', message, 'Write the archive again at the factory', options);
}
