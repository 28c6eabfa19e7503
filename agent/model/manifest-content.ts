import { PrestageError } from './errors.ts';
import { quoteInput } from './faults.ts';
import type { ImageManifest, IndexManifest } from './manifest.ts';

/** What a manifest describes. Registries hold much else than images, and in the same form. */
export type ManifestContent = 'index' | 'image' | 'foreign-layers' | 'helm-chart' | 'signature' | 'attestation' | 'artifact';

/** Types of the config of an image; manifests of old tools name none. Sources: OCI image-spec, media-types.md; distribution, schema 2. */
const IMAGE_CONFIGS: ReadonlySet<string> = new Set([
  '',
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
]);
/** Types of layers, and of those that no registry need hand out, as in Windows images. */
const LAYER = /^$|^application\/vnd\.(?:oci\.image\.layer|docker\.image\.rootfs)\./;
const FOREIGN_LAYER = /nondistributable|\.foreign\./;
/** Source: helm.sh/docs, "Registries", OCI media types. */
const HELM_CONFIG = 'application/vnd.cncf.helm.config.v1+json';
/** Sources: sigstore/cosign, specs/SIGNATURE_SPEC.md; sigstore bundles as OCI referrers. */
const SIGNATURE = /^application\/vnd\.dev\.(?:cosign\.simplesigning|sigstore\.bundle)/;
/** Sources: in-toto/attestation; sigstore/cosign, specs/ATTESTATION_SPEC.md; BuildKit, attestation-storage.md. */
const ATTESTATION = /^application\/(?:vnd\.in-toto|vnd\.dsse\.envelope)/;

/** What a manifest describes, as far as it says itself: by the types of its config and of its layers. Pure. */
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

/** Whether layers with this type may be missing beside the image that names them. */
export function isForeignLayer(mediaType: string): boolean {
  return FOREIGN_LAYER.test(mediaType);
}

/** What a manifest is instead of an image that a Linux node can have, in words; undefined if it is one, or a list of images. Pure. */
export function notImage(manifest: ImageManifest | IndexManifest): string | undefined {
  if (manifest.kind === 'index') return undefined;
  switch (imageContent(manifest)) {
    case 'image':
      return undefined;
    case 'foreign-layers':
      return 'an image with layers that registries do not hand out, such as one for Windows';
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

/** @param what as notImage has it */
export function notImageError(where: string, what: string): PrestageError {
  return new PrestageError(
    'ERR_NOT_IMAGE',
    `${where} is ${what}, not a container image for Linux`,
    'Take it off the list, or give --skip-artifacts to pull and build',
  );
}
