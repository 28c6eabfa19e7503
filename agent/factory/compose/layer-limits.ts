import { STORE_PATH } from '../../model/places.ts';
import { isOlderRelease } from '../../model/release.ts';
import type { NamedImage } from './source-image.ts';
import { LINK_LENGTH } from './store-records.ts';

/**
 * The most layers of one image that engines can stack. The kernel stacks 500 lower directories (Linux, fs/overlayfs/super.c, OVL_MAX_STACK; tried:
 * 500 mount, 501 do not). containers-storage 1.44 and later stacks as many and names them by open file descriptors. Earlier versions stack 128 and
 * name them by paths in one page of mount options; the path of a layer in an additional store is a full one. CRI-O 1.26 and OpenShift 4.13 are the
 * first with containers-storage 1.44.
 * Source: github.com/containers/storage, drivers/overlay/overlay.go (maxDepth) and mount.go.
 */
const ENGINE_LAYERS = 500;
const OLD_ENGINE_LAYERS = 128;
const FIRST_WITH_NEW_ENGINES = '4.13';

/** Bytes of options that mount(2) takes: a page, with the zero at its end. */
const PAGE_BYTES = 4096;
/** Further options of an engine on RHEL: those of storage.conf, and the longest label. */
const OTHER_OPTIONS = ',nodev,metacopy=on,volatile,context="system_u:object_r:container_file_t:s0:c1022,c1023"';

/** Bytes of overlay's options for a container of an image with this many layers in the store of a node. */
function optionBytes(layers: number): number {
  const own = `/var/lib/containers/storage/overlay/${'0'.repeat(64)}`;
  const lower = Array.from({ length: layers }, () => `${STORE_PATH}/overlay/l/${'x'.repeat(LINK_LENGTH)}`).join(':');
  return `lowerdir=${lower},upperdir=${own}/diff,workdir=${own}/work${OTHER_OPTIONS}`.length;
}

/** The most layers of an image that every engine can run from the mounted store of a node. */
export const STORE_LAYERS = storeLayers();

function storeLayers(): number {
  let layers = 0;
  while (optionBytes(layers + 1) < PAGE_BYTES) layers++;
  return layers;
}

/** References that one warning names. */
const NAMED = 5;

/**
 * Warnings about images with too many layers for nodes. If the release is not known, the oldest nodes count. Pure.
 * @param release such as 4.14.0; empty if it is not known
 */
export function layerWarnings(images: readonly NamedImage[], release: string, hasStore: boolean): readonly string[] {
  const withMore = (least: number, most: number): readonly NamedImage[] =>
    images.filter(({ image }) => image.layers.length > least && image.layers.length <= most);
  const isOld = isOlderRelease(release, FIRST_WITH_NEW_ENGINES) ?? true;
  const never = withMore(ENGINE_LAYERS, Number.POSITIVE_INFINITY);
  const notOld = isOld ? withMore(OLD_ENGINE_LAYERS, ENGINE_LAYERS) : [];
  const notMounted = isOld && hasStore ? withMore(STORE_LAYERS, OLD_ENGINE_LAYERS) : [];
  return [
    ...warning(never, `no engine runs more than ${ENGINE_LAYERS} layers, with any delivery; build the image with fewer`),
    ...warning(notOld, `engines before OpenShift ${FIRST_WITH_NEW_ENGINES} run at most ${OLD_ENGINE_LAYERS} layers, with any delivery`),
    ...warning(
      notMounted,
      `engines before OpenShift ${FIRST_WITH_NEW_ENGINES} run at most ${STORE_LAYERS} layers from a mounted store image; let such nodes extract it (--payload oci)`,
    ),
  ];
}

function warning(images: readonly NamedImage[], what: string): readonly string[] {
  if (images.length === 0) return [];
  const named = images.slice(0, NAMED).map(({ reference, image }) => `${reference} (${image.layers.length} layers)`);
  const more = images.length > NAMED ? `, and ${images.length - NAMED} more` : '';
  return [`${named.join(', ')}${more}: ${what}`];
}

/** The image with the most layers. Pure. */
export function deepestOf(images: readonly NamedImage[]): NamedImage | undefined {
  return images.toSorted((a, b) => b.image.layers.length - a.image.layers.length)[0];
}
