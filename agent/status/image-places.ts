import type { RegistryEntry } from '../engine/registries-file.ts';
import { governingEntry, relocate } from '../engine/registries-match.ts';
import { formatReference, nameOf, type Reference } from '../model/reference.ts';

/** A place that engines ask for an image. */
export interface PullPlace {
  /** The image by the name that it has there. */
  readonly name: string;
  readonly kind: 'mirror' | 'source';
  /** The file whose entry forbids engines to ask there. */
  readonly blockedBy?: string;
}

/** An image as engines pull it: if it has a tag and a digest, the tag is dropped. Source: containers/common, libimage/normalize.go. Pure. */
export function pulledReference({ registry, repository, tag, digest }: Reference): Reference {
  if (digest !== undefined) return { registry, repository, digest };
  return { registry, repository, tag: tag ?? 'latest' };
}

/**
 * The places that a pull of an image asks, in that order. Pure.
 * Source: containers/image, pkg/sysregistriesv2, PullSourcesFromReference; docker/docker_image_src.go, newImageSource.
 * @param entries of the configuration in force
 */
export function pullPlaces(entries: readonly RegistryEntry[], reference: Reference): readonly PullPlace[] {
  const name = nameOf(reference);
  const suffix = formatReference(reference).slice(name.length);
  const entry = governingEntry(entries, name);
  const mirrors = (entry?.mirrors ?? []).filter((mirror) => isAsked(mirror.pullFromMirror, entry, reference));
  const locations = [
    ...mirrors.map(({ location }) => ({ location, kind: 'mirror' as const })),
    { location: entry?.location ?? '', kind: 'source' as const },
  ];
  return locations.map(({ location, kind }) => {
    const place = entry === undefined ? name : relocate(name, { prefix: entry.prefix, location });
    const blocking = governingEntry(entries, place);
    return { name: `${place}${suffix}`, kind, ...(blocking?.blocked === true && { blockedBy: blocking.file }) };
  });
}

function isAsked(pullFromMirror = 'all', entry: RegistryEntry | undefined, { digest }: Reference): boolean {
  if (entry?.mirrorByDigestOnly === true || pullFromMirror === 'digest-only') return digest !== undefined;
  return pullFromMirror !== 'tag-only' || digest === undefined;
}
