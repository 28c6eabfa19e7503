import { governingEntry, relocate } from '../../engine/registries-match.ts';
import type { RegistriesView } from '../../engine/registries-view.ts';

/** A repository that an image can come from. */
export interface ImagePlace {
  /** Registry and repository, by which logins are looked up. */
  readonly name: string;
  /** Host and port of the registry, as names have it; certificates are looked up by it. */
  readonly registry: string;
  /** Path in the registry. */
  readonly repository: string;
  /** Allows HTTP and unverified certificates. */
  readonly isInsecure: boolean;
}

/**
 * Where skopeo asks for the manifests of a repository by digest: the mirrors of registries.conf in their order, then the source unless it is
 * blocked. Pure. Source: containers/image, pkg/sysregistriesv2, PullSourcesFromReference.
 * @param name registry and repository, as the list has them
 */
export function imagePlaces({ entries }: Pick<RegistriesView, 'entries'>, name: string): readonly ImagePlace[] {
  const entry = governingEntry(entries, name);
  if (entry === undefined) return [placeOf(name, false)];
  const mirrors = entry.mirrors.filter(({ pullFromMirror }) => pullFromMirror !== 'tag-only');
  return [
    ...mirrors.map(({ location, insecure }) => placeOf(relocate(name, { prefix: entry.prefix, location }), insecure)),
    ...(entry.blocked ? [] : [placeOf(relocate(name, entry), entry.insecure)]),
  ];
}

function placeOf(name: string, isInsecure: boolean): ImagePlace {
  const slash = name.indexOf('/');
  return { name, registry: name.slice(0, slash), repository: name.slice(slash + 1), isInsecure };
}
