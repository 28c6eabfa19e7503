import { nameOf, readReference } from '../model/reference.ts';
import type { MirrorSetEntry, SetConfiguration } from './mirror-sets.ts';
import type { ServedImage } from './tree-images.ts';

/** Path of the images of a source in the tree of a registry. */
export interface MirrorSource {
  /** Prefix of a reference: registry, namespace or repository. */
  readonly prefix: string;
  /** Its replacement in the tree; empty for the whole tree. */
  readonly path: string;
}

/** An image of the tree with the names under which engines ask for it. */
export interface MirroredImage extends ServedImage {
  /** Registry and repository of its sources; empty if the source is unknown. */
  readonly sources: readonly string[];
}

export interface MirrorSources {
  /** Sorted by prefix; each pair of prefix and path once. */
  readonly sources: readonly MirrorSource[];
  readonly notices: readonly string[];
}

/** Where oc-mirror stores a release: the only images whose path does not follow from their source. Source: openshift/oc-mirror, internal/pkg/release. */
const RELEASE: readonly MirrorSource[] = [
  { prefix: 'quay.io/openshift-release-dev/ocp-release', path: 'openshift/release-images' },
  { prefix: 'quay.io/openshift-release-dev/ocp-v4.0-art-dev', path: 'openshift/release' },
];

/**
 * Maps sources to paths of a tree. Archives of oc-mirror contain no mirror sets, because oc-mirror writes those only when it fills a registry. If
 * mirror sets lie beside the archives, their mirrors name a registry, and maybe a namespace, that the tree does not have. So this searches the tree
 * for the path of a mirror with ever fewer leading components, and finally for the path of the source itself, which oc-mirror uses for its images.
 * Without mirror sets, only the release and the images named in the configuration are mapped. Pure.
 */
export function mirrorSources(
  entries: readonly MirrorSetEntry[],
  configurations: readonly SetConfiguration[],
  repositories: readonly string[],
): MirrorSources {
  const holds = (path: string): boolean => repositories.some((one) => path === '' || one === path || one.startsWith(`${path}/`));
  const notices: string[] = [];
  const fromSets = entries.flatMap(({ source, mirrors }): readonly MirrorSource[] => {
    const candidates = [...mirrors.flatMap((mirror) => tailsOf(pathOf(mirror))), pathOf(source)].filter(
      (path) => path !== '' || pathOf(source) === '',
    );
    const path = candidates.find(holds);
    if (path !== undefined) return [{ prefix: source, path }];
    notices.push(`${source} is mirrored by ${mirrors.join(', ') || 'nothing'}, but the archives have no repository there`);
    return [];
  });
  const known = [...RELEASE.filter(({ path }) => holds(path)), ...configurations.flatMap((one) => fromConfiguration(one, holds))];
  const further = known.filter(({ prefix }) => !fromSets.some((one) => prefix === one.prefix || prefix.startsWith(`${one.prefix}/`)));
  const unique = new Map([...fromSets, ...further].map((one) => [`${one.prefix} ${one.path}`, one]));
  const sources = [...unique.values()].toSorted((a, b) => (`${a.prefix} ${a.path}` < `${b.prefix} ${b.path}` ? -1 : 1));
  const unreached = repositories.filter((repository) => sourcesOf(repository, sources).length === 0);
  if (unreached.length > 0) {
    const [named, more] = [unreached.slice(0, NAMED_LIMIT).join(', '), unreached.length - NAMED_LIMIT];
    const which = more > 0 ? `${named} and ${more} more` : named;
    notices.push(`the source of ${which} is unknown: put idms-oc-mirror.yaml and itms-oc-mirror.yaml beside the archives`);
  }
  return { sources, notices };
}

/** Most repositories that a notice names. */
const NAMED_LIMIT = 5;

/** The images of a tree with their sources. Pure. */
export function mirroredImages(images: readonly ServedImage[], sources: readonly MirrorSource[]): readonly MirroredImage[] {
  return images.map((image) => ({ ...image, sources: sourcesOf(image.repository, sources) }));
}

/**
 * The sources in the form for an engine's configuration: prefixes, and their replacements at the registries that serve the tree.
 * @param addresses host and port of the registries, in order
 */
export function mirrorLocations(
  sources: readonly MirrorSource[],
  addresses: readonly string[],
): readonly { readonly prefix: string; readonly mirrors: readonly string[] }[] {
  const byPrefix = Map.groupBy(sources, (source) => source.prefix);
  return [...byPrefix].map(([prefix, some]) => ({
    prefix,
    mirrors: addresses.flatMap((address) => some.map(({ path }) => (path === '' ? address : `${address}/${path}`))),
  }));
}

/** Full names under which engines ask for a repository of the tree. */
function sourcesOf(repository: string, sources: readonly MirrorSource[]): readonly string[] {
  const names = sources.flatMap(({ prefix, path }) => {
    if (path === '') return [`${prefix}/${repository}`];
    return repository === path || repository.startsWith(`${path}/`) ? [`${prefix}${repository.slice(path.length)}`] : [];
  });
  return [...new Set(names)].toSorted();
}

function fromConfiguration(configuration: SetConfiguration, holds: (path: string) => boolean): readonly MirrorSource[] {
  return configuration.images.flatMap(({ reference: text, target }) => {
    // Catalogs on a disk (oci://…) have no registry that an engine could ask.
    const reference = readReference(text);
    if (typeof reference === 'string') return [];
    const path = target ?? reference.repository;
    return holds(path) ? [{ prefix: nameOf(reference), path }] : [];
  });
}

/** A place without its registry. */
function pathOf(place: string): string {
  const slash = place.indexOf('/');
  return slash < 0 ? '' : place.slice(slash + 1);
}

/** A path, then the path without its first component, without its first two, and so on. */
function tailsOf(path: string): readonly string[] {
  const components = path.split('/');
  return components.map((_, index) => components.slice(index).join('/'));
}
