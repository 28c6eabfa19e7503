import * as v from 'valibot';
import { type Digest, isDigest } from './digest.ts';
import { PrestageError } from './errors.ts';

/** A blob or manifest that a manifest names. Sizes are bytes. */
export interface Descriptor {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly mediaType: string;
}

/** One image: its config and its layers, lowest first. */
export interface ImageManifest {
  readonly kind: 'image';
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

/** A manifest list or image index: one image per platform. */
export interface IndexManifest {
  readonly kind: 'index';
  readonly instances: readonly (Descriptor & { readonly os: string; readonly architecture: string; readonly variant: string })[];
}

/** containers/image reads no manifest that is larger (internal/iolimits, MaxManifestBodySize). */
export const MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024;

const descriptorSchema = v.object({
  mediaType: v.optional(v.string(), ''),
  digest: v.custom<Digest>((value) => typeof value === 'string' && isDigest(value), 'is not a sha256 digest'),
  size: v.pipe(v.number(), v.integer(), v.minValue(0)),
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
 * Reads a manifest: OCI image manifest or index, Docker schema 2 manifest or list.
 * Source: OCI image-spec manifest.md and image-index.md; distribution, "Image Manifest V 2, Schema 2".
 * @param where what the bytes are, for the message
 * @throws PrestageError ERR_MANIFEST
 */
export function parseManifest(bytes: Uint8Array, where: string): ImageManifest | IndexManifest {
  const json = parseJson(bytes, where);
  const isIndex = typeof json === 'object' && json !== null && 'manifests' in json;
  if (isIndex) {
    const index = v.safeParse(indexSchema, json);
    if (!index.success) throw unreadable(where, index.issues);
    return { kind: 'index', instances: index.output.manifests.map((m) => ({ ...descriptor(m), ...m.platform })) };
  }
  const image = v.safeParse(imageSchema, json);
  if (!image.success) throw unreadable(where, image.issues);
  return { kind: 'image', config: descriptor(image.output.config), layers: image.output.layers.map(descriptor) };
}

/** The instance of an index for a linux architecture (GOARCH name), as skopeo picks it without `--all`: the first that fits. */
export function instanceFor(index: IndexManifest, architecture: string): Descriptor | undefined {
  return index.instances.find((instance) => instance.os === 'linux' && instance.architecture === architecture);
}

function descriptor(raw: v.InferOutput<typeof descriptorSchema>): Descriptor {
  return { digest: raw.digest, sizeBytes: raw.size, mediaType: raw.mediaType };
}

function parseJson(bytes: Uint8Array, where: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new PrestageError('ERR_MANIFEST', `${where} is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`, REMEDY, {
      cause,
    });
  }
}

function unreadable(where: string, issues: readonly v.BaseIssue<unknown>[]): PrestageError {
  const faults = issues.map((issue) => `${v.getDotPath(issue) ?? 'manifest'}: ${issue.message}`).join('; ');
  return new PrestageError('ERR_MANIFEST', `${where} is not an image manifest: ${faults}`, REMEDY);
}

const REMEDY = 'Write the archive again at the factory';
