import { constants } from 'node:fs';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, hexOf } from '../../agent/model/digest.ts';
import { blobPath, type MadeBlob, type MadeLayer, writeBlob } from './image-layer.ts';

/** Which standard an image's manifest and media types follow. */
export type Format = 'oci' | 'docker';

export interface ImageSpec {
  readonly labels?: Readonly<Record<string, string>>;
  /** Registry and repository. */
  readonly name: string;
  /** Where left out, the image is referred to by its digest, as release components are. */
  readonly tag?: string;
  readonly format: Format;
  readonly layers: readonly MadeLayer[];
  /** As GOARCH names it; `amd64` where left out. */
  readonly architecture?: string;
  /** `linux` where left out. */
  readonly os?: string;
  readonly command?: readonly string[];
}

export interface IndexSpec {
  readonly name: string;
  readonly tag?: string;
  readonly format: Format;
  readonly instances: readonly MadeImage[];
}

/** The image of one platform. */
export interface MadeInstance {
  readonly architecture: string;
  /** `linux` where left out. */
  readonly os?: string;
  readonly manifest: MadeBlob;
  readonly config: MadeBlob;
  readonly layers: readonly MadeLayer[];
}

/** An image whose manifests, configs and layers are blobs of a store. It is plain data and survives JSON. */
export interface MadeImage {
  /** As an image list has it: `name:tag` or `name@digest`. */
  readonly reference: string;
  /** Digest of the manifest that the reference leads to: that of the list, where there is one. */
  readonly digest: Digest;
  readonly kind: 'image' | 'index';
  readonly format: Format;
  readonly manifest: MadeBlob;
  /** One for an image; one per platform for an index. */
  readonly instances: readonly MadeInstance[];
}

/** Source: OCI image-spec media-types.md; distribution, "Image Manifest V 2, Schema 2". */
const MEDIA = {
  oci: {
    manifest: 'application/vnd.oci.image.manifest.v1+json',
    index: 'application/vnd.oci.image.index.v1+json',
    config: 'application/vnd.oci.image.config.v1+json',
    gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
    zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  },
  docker: {
    manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    index: 'application/vnd.docker.distribution.manifest.list.v2+json',
    config: 'application/vnd.docker.container.image.v1+json',
    gzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
    zstd: undefined,
  },
} as const;

const CREATED = '2024-01-01T00:00:00Z';

/** Makes an image of layers that the store holds: its config and its manifest. */
export async function makeImage(store: string, spec: ImageSpec): Promise<MadeImage> {
  const architecture = spec.architecture ?? 'amd64';
  const media = MEDIA[spec.format];
  const config = await writeBlob(
    store,
    JSON.stringify({
      architecture,
      os: spec.os ?? 'linux',
      created: CREATED,
      config: {
        Env: ['PATH=/usr/bin:/bin'],
        Cmd: spec.command ?? ['/bin/sh'],
        Labels: { 'org.opencontainers.image.title': spec.name, ...spec.labels },
      },
      rootfs: { type: 'layers', diff_ids: spec.layers.map((layer) => layer.diffId) },
      history: spec.layers.map(() => ({ created: CREATED, created_by: 'made for tests' })),
    }),
  );
  const layers = spec.layers.map((layer) => {
    const mediaType = media[layer.compression];
    if (mediaType === undefined) throw new Error(`${spec.name}: ${spec.format} has no media type for ${layer.compression}`);
    return { mediaType, size: layer.sizeBytes, digest: layer.digest };
  });
  const manifest = await writeBlob(
    store,
    JSON.stringify({
      schemaVersion: 2,
      mediaType: media.manifest,
      config: { mediaType: media.config, size: config.sizeBytes, digest: config.digest },
      layers,
    }),
  );
  const instances = [{ architecture, ...(spec.os && { os: spec.os }), manifest, config, layers: spec.layers }];
  return {
    reference: referenceOf(spec, manifest.digest),
    digest: manifest.digest,
    kind: 'image',
    format: spec.format,
    manifest,
    instances,
  };
}

/** Makes an image index (OCI) or manifest list (Docker) of images of one platform each. */
export async function makeIndex(store: string, spec: IndexSpec): Promise<MadeImage> {
  const media = MEDIA[spec.format];
  const instances = spec.instances.flatMap((image) => image.instances);
  const manifest = await writeBlob(
    store,
    JSON.stringify({
      schemaVersion: 2,
      mediaType: media.index,
      manifests: instances.map((instance) => ({
        mediaType: media.manifest,
        size: instance.manifest.sizeBytes,
        digest: instance.manifest.digest,
        platform: { architecture: instance.architecture, os: instance.os ?? 'linux' },
      })),
    }),
  );
  return {
    reference: referenceOf(spec, manifest.digest),
    digest: manifest.digest,
    kind: 'index',
    format: spec.format,
    manifest,
    instances,
  };
}

/** Every blob of an image once: configs and layers of all its platforms. Manifests are no blobs here. */
export function blobsOf(image: MadeImage): readonly MadeBlob[] {
  const blobs = image.instances.flatMap((instance) => [instance.config, ...instance.layers]);
  return [...new Map(blobs.map((blob) => [blob.digest, blob])).values()];
}

/**
 * Writes an image as skopeo's `dir:` layout, with the manifests of all platforms as `skopeo copy --all` gives it.
 * Source: containers/image, directory/directory_transport.go; containers-transports(5).
 */
export async function writeDirLayout(store: string, image: MadeImage, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'version'), 'Directory Transport Version: 1.1\n');
  await place(blobPath(store, image.digest), join(directory, 'manifest.json'));
  if (image.kind === 'index') {
    for (const { manifest } of image.instances) {
      await place(blobPath(store, manifest.digest), join(directory, `${hexOf(manifest.digest)}.manifest.json`));
    }
  }
  for (const { digest } of blobsOf(image)) await place(blobPath(store, digest), join(directory, hexOf(digest)));
}

/** Writes images as one OCI image layout; an image's reference is its name in it. Source: OCI image-spec, image-layout.md. */
export async function writeOciLayout(store: string, images: readonly MadeImage[], directory: string): Promise<void> {
  await mkdir(join(directory, 'blobs/sha256'), { recursive: true });
  await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const manifests = images.map((image) => ({
    mediaType: MEDIA[image.format][image.kind === 'index' ? 'index' : 'manifest'],
    digest: image.digest,
    size: image.manifest.sizeBytes,
    annotations: { 'org.opencontainers.image.ref.name': image.reference },
  }));
  await writeFile(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  const manifestsOf = images.flatMap((image) => [image.manifest, ...image.instances.map((instance) => instance.manifest)]);
  const digests = new Set([...manifestsOf, ...images.flatMap(blobsOf)].map((blob) => blob.digest));
  for (const digest of digests) await place(blobPath(store, digest), blobPath(directory, digest));
}

function referenceOf(spec: { readonly name: string; readonly tag?: string }, digest: Digest): string {
  return spec.tag === undefined ? `${spec.name}@${digest}` : `${spec.name}:${spec.tag}`;
}

/** Never a hard link: what one test changes in its folder would change in those of all others, and their builds would take it for news. */
async function place(from: string, to: string): Promise<void> {
  await copyFile(from, to, constants.COPYFILE_FICLONE);
}
