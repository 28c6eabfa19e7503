import * as v from 'valibot';
import { PrestageError } from './errors.ts';
import { quoteInput } from './faults.ts';
import type { ImageManifest, IndexManifest } from './manifest.ts';

/** The content of a manifest. Registries hold much besides images, in the same form. */
export type ManifestContent = 'index' | 'image' | 'foreign-layers' | 'helm-chart' | 'signature' | 'attestation' | 'artifact';

/** Config types of an image; manifests of old tools have none. Sources: OCI image-spec, media-types.md; distribution, schema 2. */
const IMAGE_CONFIGS: ReadonlySet<string> = new Set([
  '',
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
]);
/** Layer types, and types of layers that registries need not distribute, as in Windows images. */
const LAYER = /^$|^application\/vnd\.(?:oci\.image\.layer|docker\.image\.rootfs)\./;
const FOREIGN_LAYER = /nondistributable|\.foreign\./;
/** Source: helm.sh/docs, "Registries", OCI media types. */
const HELM_CONFIG = 'application/vnd.cncf.helm.config.v1+json';
/** Sources: sigstore/cosign, specs/SIGNATURE_SPEC.md; sigstore bundles as OCI referrers. */
const SIGNATURE = /^application\/vnd\.dev\.(?:cosign\.simplesigning|sigstore\.bundle)/;
/** Sources: in-toto/attestation; sigstore/cosign, specs/ATTESTATION_SPEC.md; BuildKit, attestation-storage.md. */
const ATTESTATION = /^application\/(?:vnd\.in-toto|vnd\.dsse\.envelope)/;

/** The content of a manifest, by the types of its config and layers. Pure. */
export function contentOf(manifest: ImageManifest | IndexManifest): ManifestContent {
  return manifest.kind === 'index' ? 'index' : imageContent(manifest);
}

function imageContent({ config, layers }: ImageManifest): Exclude<ManifestContent, 'index'> {
  if (config.mediaType === HELM_CONFIG) return 'helm-chart';
  const types = layers.map((layer) => layer.mediaType);
  const isImage = IMAGE_CONFIGS.has(config.mediaType) && (types.length === 0 || types.some((type) => LAYER.test(type)));
  if (isImage) return types.some((type) => FOREIGN_LAYER.test(type)) ? 'foreign-layers' : 'image';
  if (types.some((type) => SIGNATURE.test(type))) return 'signature';
  return types.some((type) => ATTESTATION.test(type)) ? 'attestation' : 'artifact';
}

/** Whether a registry may lack layers of this type. */
export function isForeignLayer(mediaType: string): boolean {
  return FOREIGN_LAYER.test(mediaType);
}

/** containers/image reads no config that is larger (internal/iolimits, MaxConfigBodySize). */
export const CONFIG_LIMIT_BYTES = 4 * 1024 * 1024;

/** The platform of an image, with Go's names; empty if it is not known. */
export interface ImagePlatform {
  readonly os: string;
  readonly architecture: string;
}

/** Source: OCI image-spec, config.md; Docker's configs have the same fields. */
const platformSchema = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({ os: v.fallback(v.string(), ''), architecture: v.fallback(v.string(), '') }),
);

/** The platform in the config of an image; empty if the bytes are not a config. */
export function parsePlatform(config: Uint8Array): ImagePlatform {
  const parsed = v.safeParse(platformSchema, new TextDecoder().decode(config));
  return parsed.success ? parsed.output : { os: '', architecture: '' };
}

/**
 * A description of a manifest that is not an image for a Linux node; undefined if it is such an image, or a list that has one. Pure.
 * @param os operating system of the image, from its config or from its list; empty if it is not known. Most images for Windows show it nowhere else
 */
export function notImage(manifest: ImageManifest | IndexManifest, os = ''): string | undefined {
  if (manifest.kind === 'index') return otherSystems(manifest);
  switch (imageContent(manifest)) {
    case 'image':
      return isLinux(os) ? undefined : `an image for ${quoteInput(os)}`;
    case 'foreign-layers':
      return 'an image with layers that registries do not distribute, such as an image for Windows';
    case 'helm-chart':
      return 'a Helm chart';
    case 'signature':
      return 'a signature';
    case 'attestation':
      return 'an attestation';
    case 'artifact':
      return `an artifact with a config of type ${quoteInput(manifest.config.mediaType)}`;
  }
}

/** A description of a list that names images, but none that can be for Linux. */
function otherSystems({ instances }: IndexManifest): string | undefined {
  const systems = [...new Set(instances.map(({ os }) => os))];
  if (systems.length === 0 || systems.some(isLinux)) return undefined;
  return `a list of images for ${systems.slice(0, SHOWN_SYSTEMS).map(quoteInput).join(', ')} alone`;
}

const SHOWN_SYSTEMS = 3;

function isLinux(os: string): boolean {
  return os === '' || os === 'linux';
}

/** @param what the result of `notImage` */
export function notImageError(where: string, what: string): PrestageError {
  return new PrestageError(
    'ERR_NOT_IMAGE',
    `${where} is ${what}, not a container image for Linux`,
    'Take it off the list, or give --skip-artifacts to pull and build',
  );
}
