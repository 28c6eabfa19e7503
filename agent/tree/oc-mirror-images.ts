import { nameOf, readReference } from '../model/reference.ts';
import type { MirrorSetEntry, SetConfiguration } from './mirror-sets.ts';
import type { ServedImage } from './tree-images.ts';

/** Where the images of a source are in a registry's tree. */
export interface MirrorSource {
  /** What stands in front of a reference: registry, namespace or repository. */
  readonly prefix: string;
  /** What takes its place in the tree; empty for the tree as a whole. */
  readonly path: string;
}

/** An image of the tree with the names that it is asked for by. */
export interface MirroredImage extends ServedImage {
  /** Registry and repository of its sources; none where nothing says where it comes from. */
  readonly sources: readonly string[];
}

export interface MirrorSources {
  /** Sorted by prefix, each once with each path. */
  readonly sources: readonly MirrorSource[];
  readonly notices: readonly string[];
}

/** Where oc-mirror keeps a release: the only images whose path it does not take from their source. Source: openshift/oc-mirror, internal/pkg/release. */
const RELEASE: readonly MirrorSource[] = [
  { prefix: 'quay.io/openshift-release-dev/ocp-release', path: 'openshift/release-images' },
  { prefix: 'quay.io/openshift-release-dev/ocp-v4.0-art-dev', path: 'openshift/release' },
];

/**
 * Leads sources to paths of a tree. Archives of oc-mirror hold no mirror sets, since those come into being when it fills a registry; where
 * they lie beside the archives, their mirrors name a registry and maybe a namespace that the tree does not have. So a mirror's path is
 * looked for in the tree without its leading components, and last the source's own path, which is what oc-mirror keeps its images under.
 * Without sets there are the release and what the configuration names. Pure.
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
    notices.push(`${source} is mirrored by ${mirrors.join(', ') || 'nothing'}, and no repository of the archives lies there`);
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
    notices.push(`nothing says where ${which} comes from: put idms-oc-mirror.yaml and itms-oc-mirror.yaml beside the archives`);
  }
  return { sources, notices };
}

/** Repositories that a notice names. */
const NAMED_LIMIT = 5;

/** The images of a tree with their sources. Pure. */
export function mirroredImages(images: readonly ServedImage[], sources: readonly MirrorSource[]): readonly MirroredImage[] {
  return images.map((image) => ({ ...image, sources: sourcesOf(image.repository, sources) }));
}

/**
 * The sources as an engine's configuration needs them: prefixes, and what takes their place at registries that serve the tree.
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
    // Catalogs can lie on a disk (oci://…): those have no registry that would be asked for.
    const reference = readReference(text);
    if (typeof reference === 'string') return [];
    const path = target ?? reference.repository;
    return holds(path) ? [{ prefix: nameOf(reference), path }] : [];
  });
}

/** Without the registry. */
function pathOf(place: string): string {
  const slash = place.indexOf('/');
  return slash < 0 ? '' : place.slice(slash + 1);
}

/** A path, and what is left of it without its first components. */
function tailsOf(path: string): readonly string[] {
  const components = path.split('/');
  return components.map((_, index) => components.slice(index).join('/'));
}
