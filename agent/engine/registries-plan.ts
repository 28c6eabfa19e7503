import type { MirrorEntry, RegistryEntry } from './registries-file.ts';
import { governingEntry, matchLength, relocate } from './registries-match.ts';
import type { RegistriesView } from './registries-view.ts';

/** How mirrors are limited to digests: each mirror by itself (`pull-from-mirror`), or, in older engines, all mirrors of a source together. */
export type MirrorDialect = 'per-mirror' | 'per-registry';

/** Mirrors of ours that engines ask before the sources of images. */
export interface MirrorRequest {
  readonly sources: readonly {
    /** Registry, namespace and repository. */
    readonly prefix: string;
    /** Our mirrors of it, in order. */
    readonly mirrors: readonly string[];
  }[];
  /** Our mirrors answer by HTTP, or with a certificate that engines do not trust. */
  readonly insecure: boolean;
  /** The source is never asked. */
  readonly block: boolean;
}

/** An entry that has to be written, and the one of the same prefix that it replaces. */
export interface PlannedEntry {
  readonly entry: RegistryEntry;
  /** The entry that applies to the prefix so far. */
  readonly base: RegistryEntry | undefined;
}

export interface PlannedMirrors {
  readonly planned: readonly PlannedEntry[];
  /** What the operator must know, each a sentence. */
  readonly notices: readonly string[];
}

/**
 * The entries that put our mirrors first, and change nothing else. A longer prefix shadows a shorter one: so our entries repeat the settings that
 * applied before, and entries with longer prefixes than ours are written again, because they would bypass ours.
 * Pure; sorted by prefix.
 * @param file the file that will contain the entries
 */
export function planMirrors(view: RegistriesView, request: MirrorRequest, dialect: MirrorDialect, file: string): PlannedMirrors {
  const sources = request.sources.map(({ prefix }) => prefix);
  const below = view.entries
    .map(({ prefix }) => prefix)
    .filter((prefix) => sources.some((source) => matchLength(prefix, source) !== undefined));
  const planned = [...new Set([...sources, ...below])].toSorted().map((prefix): PlannedEntry => {
    const base = governingEntry(view.entries, prefix);
    return { base, entry: entryFor(prefix, base, { request, dialect, file }) };
  });
  const kept = planned.filter(({ entry }) => entry.mirrorByDigestOnly).map(({ entry }) => entry.prefix);
  return {
    planned,
    notices: [
      ...(view.shadowedBy === undefined
        ? []
        : [
            `podman reads ${view.shadowedBy} for root, and nothing in /etc/containers: move that file away; otherwise engines do not ask our mirrors`,
          ]),
      ...(kept.length === 0
        ? []
        : [`This podman version cannot use our mirrors of ${kept.join(', ')} for tags: pulls by tag still go to the source registry`]),
    ],
  };
}

/**
 * Leaves entries out that would make a file unreadable: in one file, entries of one location must agree on `insecure` and `blocked`.
 * Source: containers/image, pkg/sysregistriesv2, postProcessRegistries.
 * @param beside the other entries in the file
 */
export function withoutConflicts({ planned, notices }: PlannedMirrors, beside: readonly RegistryEntry[]): PlannedMirrors {
  const written = [...beside];
  const kept: PlannedEntry[] = [];
  const refused: string[] = [];
  for (const item of planned) {
    const other = written.find((entry) => placeOf(entry) === placeOf(item.entry) && isInConflict(entry, item.entry));
    if (other === undefined) kept.push(item);
    else
      refused.push(
        `${item.entry.prefix} gets no mirror of ours: it leads to ${placeOf(other)}, like ${other.prefix}, but with another "insecure" or "blocked"`,
      );
    if (other === undefined) written.push(item.entry);
  }
  return { planned: kept, notices: [...notices, ...refused] };
}

interface Wish {
  readonly request: MirrorRequest;
  readonly dialect: MirrorDialect;
  readonly file: string;
}

function entryFor(prefix: string, base: RegistryEntry | undefined, { request, dialect, file }: Wish): RegistryEntry {
  const source = request.sources
    .filter((candidate) => matchLength(prefix, candidate.prefix) !== undefined)
    .toSorted((a, b) => b.prefix.length - a.prefix.length)[0];
  const ours = (source?.mirrors ?? []).map(
    (location): MirrorEntry => ({
      location: relocate(prefix, { prefix: source?.prefix ?? prefix, location }),
      insecure: request.insecure,
      extra: {},
    }),
  );
  if (base === undefined) {
    return { prefix, location: prefix, insecure: false, blocked: request.block, mirrorByDigestOnly: false, mirrors: ours, extra: {}, file };
  }
  const isSplit = dialect === 'per-mirror' && base.mirrorByDigestOnly;
  const theirs = base.mirrors.map((mirror): MirrorEntry => {
    const location = relocate(prefix, { prefix: base.prefix, location: mirror.location });
    return { ...mirror, location, ...(isSplit && { pullFromMirror: 'digest-only' }) };
  });
  return {
    prefix,
    // Engines check whether the location that they are about to ask is blocked, not the image. So a blocked source must lead to its own prefix.
    location: request.block ? prefix : relocate(prefix, base),
    insecure: base.insecure,
    blocked: request.block || base.blocked,
    mirrorByDigestOnly: base.mirrorByDigestOnly && !isSplit,
    mirrors: [...ours, ...theirs],
    extra: base.extra,
    file,
  };
}

function placeOf(entry: RegistryEntry): string {
  return entry.location || entry.prefix;
}

function isInConflict(a: RegistryEntry, b: RegistryEntry): boolean {
  return a.insecure !== b.insecure || a.blocked !== b.blocked;
}
