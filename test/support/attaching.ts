import { formatReferrers, OCI_INDEX_TYPE, OCI_MANIFEST_TYPE, type Referrer } from '../../agent/model/attached.ts';
import { type Digest, digestOf } from '../../agent/model/digest.ts';
import { writeBlob } from './image-layer.ts';
import type { MadeImage } from './images.ts';

export const BUNDLE_TYPE = 'application/vnd.dev.sigstore.bundle.v0.3+json';

export interface AttachSpec {
  /** Registry and repository. */
  readonly repository: string;
  /** Left out for a referrer, which has none. */
  readonly tag?: string;
  /** The manifest that it names as its subject; none if left out. */
  readonly subject?: Digest;
  readonly artifactType?: string;
  readonly content: string;
}

/** Stores an attachment as cosign and oras make it: an empty config, one layer. */
export async function makeAttached(store: string, spec: AttachSpec): Promise<MadeImage> {
  const [config, layer] = [await writeBlob(store, '{}'), await writeBlob(store, spec.content)];
  const text = JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST_TYPE,
    ...(spec.artifactType !== undefined && { artifactType: spec.artifactType }),
    config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: config.digest, size: config.sizeBytes },
    layers: [{ mediaType: spec.artifactType ?? 'application/vnd.dsse.envelope.v1+json', digest: layer.digest, size: layer.sizeBytes }],
    ...(spec.subject !== undefined && { subject: { mediaType: OCI_MANIFEST_TYPE, digest: spec.subject, size: 1 } }),
    annotations: { 'org.opencontainers.image.created': '2026-01-01T00:00:00Z' },
  });
  const manifest = await writeBlob(store, text);
  const layers = [{ ...layer, diffId: layer.digest, unpackedBytes: layer.sizeBytes, compression: 'gzip' as const }];
  const { repository, tag } = spec;
  return {
    reference: tag === undefined ? `${repository}@${manifest.digest}` : `${repository}:${tag}`,
    digest: manifest.digest,
    kind: 'image',
    format: 'oci',
    manifest,
    instances: [{ architecture: 'amd64', manifest, config, layers }],
  };
}

/** Stores bytes as a manifest under a tag, whatever they are; `below` are manifests that it names. */
export async function makeTagged(store: string, reference: string, text: string, below: readonly MadeImage[] = []): Promise<MadeImage> {
  const manifest = await writeBlob(store, text);
  const instances = below.flatMap((image) => image.instances);
  return { reference, digest: manifest.digest, kind: 'index', format: 'oci', manifest, instances };
}

/** The list of referrers that a registry without a call for it has under a tag. */
export function listOfReferrers(referrers: readonly MadeImage[], artifactType = BUNDLE_TYPE): string {
  return formatReferrers(referrers.map((one) => referrerOf(one, artifactType)));
}

/** As the list has it that we write. */
export function referrerOf({ digest, manifest }: MadeImage, artifactType = BUNDLE_TYPE): Referrer {
  return {
    digest,
    sizeBytes: manifest.sizeBytes,
    artifactType,
    annotations: { 'org.opencontainers.image.created': '2026-01-01T00:00:00Z' },
  };
}

/** A list of referrers with entries that are nowhere. */
export function longList(entries: number): string {
  const manifests = Array.from({ length: entries }, (_, index) => ({
    mediaType: OCI_MANIFEST_TYPE,
    digest: digestOf(String(index)),
    size: 7,
  }));
  return JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX_TYPE, manifests });
}
