import { PrestageError } from '../model/errors.ts';
import { listFaults, quoteInput } from '../model/faults.ts';
import type { IgnitionConfig, IgnitionUnit } from './config.ts';
import { foreignOwner, isOurs, piecesOf } from './owners.ts';
import { type IgnitionFault, validateConfig } from './validate.ts';

export interface MergedConfig {
  readonly config: IgnitionConfig;
  /** Names of stale pieces of ours that were in the override and that the new rendering does not write. */
  readonly removed: readonly string[];
}

/**
 * Puts our pieces into an override that somebody wrote: ours from an earlier rendering go, everything else keeps its place and its
 * order, and ours follow at the end. The override's specification stays. Drop-ins that its author gave to a unit of ours stay on it.
 * Pure, and merging twice is merging once.
 * @throws PrestageError ERR_IGNITION_NAME with every collision
 */
export function mergeConfig(existing: IgnitionConfig, ours: IgnitionConfig): MergedConfig {
  const faults = [...foreignNames(ours), ...blockedPaths(existing, ours)];
  if (faults.length > 0) {
    throw new PrestageError(
      'ERR_IGNITION_NAME',
      listFaults('the override and prestage-agent claim the same names', faults),
      'Take these pieces out of the override, or give them another name, and merge again',
    );
  }
  const names = new Set(piecesOf(ours).map((piece) => piece.name));
  const removed = piecesOf(existing).flatMap(({ name }) => (isOurs(name) && !names.has(name) ? [name] : []));
  return { config: joined(existing, ours), removed };
}

/**
 * What is wrong with an override before the merge, with the places of its own file. Stale pieces of ours do not count: they go.
 */
export function validateExisting(existing: IgnitionConfig): readonly IgnitionFault[] {
  const stale = piecesOf(existing).filter(({ name }) => isOurs(name));
  return validateConfig(existing).filter(({ path }) => !stale.some(({ place }) => path.startsWith(`${place}.`)));
}

/** Our pieces with names that are not ours to use: `$.systemd.units[0]: …`. Empty unless a template was changed. */
export function foreignNames(ours: IgnitionConfig): readonly string[] {
  return piecesOf(ours)
    .filter(({ name }) => !isOurs(name))
    .map(
      ({ name, place }) =>
        `${place}: ${quoteInput(name)} belongs to ${foreignOwner(name) ?? 'others'}; prestage-agent writes only names of its own`,
    );
}

function blockedPaths(existing: IgnitionConfig, ours: IgnitionConfig): readonly string[] {
  const { files = [], links = [] } = existing.storage ?? {};
  const notDirectories = [
    ...files.map(({ path }, index) => ({ path, place: `$.storage.files[${index}]`, what: 'a file' })),
    ...links.map(({ path }, index) => ({ path, place: `$.storage.links[${index}]`, what: 'a link' })),
  ].filter(({ path }) => !isOurs(path));
  const ourPaths = (ours.storage?.files ?? []).map(({ path }) => path);
  return notDirectories.flatMap(({ path, place, what }) => {
    const below = ourPaths.find((ourPath) => ourPath.startsWith(`${path}/`));
    return below === undefined ? [] : [`${place}: ${quoteInput(path)} is ${what}, but ${below} needs a directory there`];
  });
}

function joined(existing: IgnitionConfig, ours: IgnitionConfig): IgnitionConfig {
  const storage = { ...existing.storage };
  const systemd = { ...existing.systemd };
  const own = ours.storage ?? {};
  const files = concat(othersOf(storage.files), own.files);
  const directories = concat(othersOf(storage.directories), own.directories);
  const links = concat(othersOf(storage.links), own.links);
  const units = concat(
    systemd.units?.filter(({ name }) => !isOurs(name)),
    ours.systemd?.units?.map((unit) => withDropins(unit, systemd.units ?? [])),
  );
  return {
    ...existing,
    storage: { ...storage, ...(files && { files }), ...(directories && { directories }), ...(links && { links }) },
    systemd: { ...systemd, ...(units && { units }) },
  };
}

function othersOf<T extends { readonly path: string }>(nodes: readonly T[] | undefined): readonly T[] | undefined {
  return nodes?.filter(({ path }) => !isOurs(path));
}

/** The two lists as one; undefined where neither is there, so that no empty list appears that nobody wrote. */
function concat<T>(first: readonly T[] | undefined, second: readonly T[] | undefined): T[] | undefined {
  return first === undefined && second === undefined ? undefined : [...(first ?? []), ...(second ?? [])];
}

function withDropins(unit: IgnitionUnit, existing: readonly IgnitionUnit[]): IgnitionUnit {
  const dropins = existing.find(({ name }) => name === unit.name)?.dropins ?? [];
  return dropins.length === 0 ? unit : { ...unit, dropins };
}
