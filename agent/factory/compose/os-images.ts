import { releaseOf } from './describe-images.ts';
import { layersOf, type NamedImage, type SourceImage } from './source-image.ts';

/** How a bundle handles operating systems: it serves them with all layers, keeps them in the store, does both, or leaves them out. */
export const OS_IMAGE_CHOICES = ['serve', 'store', 'both', 'omit'] as const;
export type OsImageChoice = (typeof OS_IMAGE_CHOICES)[number];

/** How a build handles operating systems. */
export interface OsImagePlan {
  readonly choice: OsImageChoice;
  readonly reason: string;
  readonly references: readonly string[];
  /** Size of their distinct layers as registries store them, in bytes. */
  readonly layerBytes: number;
}

/** Labels of operating systems: rpm-ostree's export to containers, and bootc. */
const SYSTEM_LABELS = ['ostree.bootable', 'ostree.commit', 'containers.bootc'];
/** Label of extension packages for one. Source: openshift/machine-config-operator, pkg/osimagestream. */
const EXTENSIONS_LABEL = 'io.openshift.os.extensions';
/**
 * A component as its release names it, `rhel-coreos-9`, `machine-os-content` up to 4.11; or as in a tag, with parts that some tools add to it:
 * `4.15.8-x86_64-rhel-coreos-extensions`.
 */
const COMPONENT =
  /(?:^|-)(?:machine-os-content|(?:rhel|stream|fedora)-coreos(?:-\d+)?(?:-extensions)?)(?:-(?:x86_64|aarch64|s390x|ppc64le))?$/;
/** From this release on the operating system is taken from the store if podman lists it there. */
const FIRST_FROM_STORE = 5;

/**
 * Whether an image is an operating system, or its extension packages. A node's pivot reads them with a program that knows neither the store
 * image nor the engines' configuration of it, so a mirror that has their manifests must have their layers. Pure.
 */
export function isOperatingSystem({
  names,
  image,
  components = [],
}: Pick<NamedImage, 'names' | 'components'> & { readonly image: Pick<SourceImage, 'labels'> }): boolean {
  const { labels } = image;
  const isLabelled = SYSTEM_LABELS.some((label) => labels[label] !== undefined) || labels[EXTENSIONS_LABEL] === 'true';
  const tags = names.map((name) => /:([^/:@]+)(?:@|$)/.exec(name)?.[1] ?? '');
  return isLabelled || [...components, ...tags].some((name) => COMPONENT.test(name));
}

/**
 * Decides how the operating systems among images are handled. Without a choice, the release decides: up to 4.22 a node reads its own from a
 * registry; from 5.0 on it takes those that podman lists in its store, with no fallback, and reads the rest from a registry. Pure.
 * Source: openshift/machine-config-operator, pkg/daemon.
 */
export function planOsImages(images: readonly NamedImage[], wanted: OsImageChoice | undefined): OsImagePlan {
  const systems = images.filter(isOperatingSystem);
  return {
    ...chosen(releaseOf(images), wanted),
    references: [...new Set(systems.map(({ reference }) => reference))],
    layerBytes: layersOf(systems).reduce((total, layer) => total + layer.sizeBytes, 0),
  };
}

function chosen(release: string, wanted: OsImageChoice | undefined): Pick<OsImagePlan, 'choice' | 'reason'> {
  if (wanted !== undefined) return { choice: wanted, reason: 'asked for' };
  const major = /^(\d+)\./.exec(release)?.[1];
  if (major === undefined) return { choice: 'serve', reason: 'the release is not known' };
  if (Number(major) >= FIRST_FROM_STORE)
    return { choice: 'both', reason: `a node of ${release} takes it from its store if available, else from a registry` };
  return { choice: 'serve', reason: `a node of ${release} reads it from a registry` };
}
