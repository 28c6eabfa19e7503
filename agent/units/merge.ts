import { PrestageError } from '../model/errors.ts';
import { listFaults, quoteInput } from '../model/faults.ts';
import type { IgnitionConfig, IgnitionUnit } from './config.ts';
import { foreignOwner, isOurs, piecesOf } from './owners.ts';
import { type IgnitionFault, validateConfig } from './validate.ts';

export interface MergedConfig {
  readonly config: IgnitionConfig;
  /** Names of outdated pieces of ours in the override that the new rendering no longer writes. */
  readonly removed: readonly string[];
}

/**
 * Merges our pieces into an override of somebody else. Our pieces from an earlier rendering are removed, everything else keeps its place and order,
 * and our new pieces are appended. The specification of the override is kept, and so are drop-ins that its author added to a unit of ours.
 * Pure; merging twice gives the same as merging once.
 * @throws PrestageError ERR_IGNITION_NAME with every collision
 */
export function mergeConfig(existing: IgnitionConfig, ours: IgnitionConfig): MergedConfig {
  const faults = [...foreignNames(ours), ...blockedPaths(existing, ours)];
  if (faults.length > 0) {
    throw new PrestageError(
      'ERR_IGNITION_NAME',
      listFaults('the override and prestage-agent claim the same names', faults),
      'Remove these pieces from the override, or rename them, and merge again',
    );
  }
  const names = new Set(piecesOf(ours).map((piece) => piece.name));
  const removed = piecesOf(existing).flatMap(({ name }) => (isOurs(name) && !names.has(name) ? [name] : []));
  return { config: joinConfigs(existing, ours), removed };
}

/**
 * Finds the faults of an override before the merge, with places in its own file. Outdated pieces of ours do not count, because they are removed.
 */
export function validateExisting(existing: IgnitionConfig): readonly IgnitionFault[] {
  const stale = piecesOf(existing).filter(({ name }) => isOurs(name));
  return validateConfig(existing).filter(({ path }) => !stale.some(({ place }) => path.startsWith(`${place}.`)));
}

/** Our pieces with names that belong to others: `$.systemd.units[0]: …`. Empty unless a template was changed. */
export function foreignNames(ours: IgnitionConfig): readonly string[] {
  return piecesOf(ours)
    .filter(({ name }) => !isOurs(name))
    .map(
      ({ name, place }) =>
        `${place}: ${quoteInput(name)} belongs to ${foreignOwner(name) ?? 'others'}; prestage-agent writes only its own names`,
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

function joinConfigs(existing: IgnitionConfig, ours: IgnitionConfig): IgnitionConfig {
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

/** Joins two lists; undefined if both are missing, so that no empty list is added. */
function concat<T>(first: readonly T[] | undefined, second: readonly T[] | undefined): T[] | undefined {
  return first === undefined && second === undefined ? undefined : [...(first ?? []), ...(second ?? [])];
}

function withDropins(unit: IgnitionUnit, existing: readonly IgnitionUnit[]): IgnitionUnit {
  const dropins = existing.find(({ name }) => name === unit.name)?.dropins ?? [];
  return dropins.length === 0 ? unit : { ...unit, dropins };
}
