import { join } from 'node:path';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { listFaults, quoteInput } from '../model/faults.ts';
import { OCI_INDEX_FILE, type OciIndex, type PlacedEntry } from '../model/oci-layout.ts';
import { formatReference, hasRegistry, readReference } from '../model/reference.ts';
import { layoutImage, readOciIndex, withoutAttached } from './oci-layout.ts';

/** An image of a layout with its full name. */
export interface NamedEntry extends PlacedEntry {
  /** Full name, as containers-storage records it. */
  readonly name: string;
}

/** Content of a layout without an image list. */
export interface NamedLayout {
  readonly images: readonly NamedEntry[];
  /** Images whose name is ambiguous. */
  readonly refused: readonly { readonly reference: string; readonly error: ErrorRecord }[];
  /** Entries that are left out, each with its place in the index and the reason. */
  readonly skipped: readonly string[];
}

/**
 * The images of a layout with full names. Layouts of other tools also have entries without a name, or with only a tag as name. These are left out,
 * because a guessed name could be the wrong image. Pure.
 * @param where path of the index, for messages
 * @param architecture GOARCH name; if entries for several platforms share a name, it selects one
 */
export function nameEntries(index: OciIndex, where: string, architecture: string): NamedLayout {
  const { entries } = index;
  const named = new Map<string, NamedEntry[]>();
  const unnamed: PlacedEntry[] = [];
  for (const entry of entries) {
    const reference = hasRegistry(entry.reference) ? readReference(entry.reference) : 'is not full';
    if (typeof reference === 'string') unnamed.push(entry);
    else {
      const name = formatReference(reference);
      named.set(name, [...(named.get(name) ?? []), { ...entry, name }]);
    }
  }
  const chosen = [...named].map(([name, group]) => ({ name, group, fitting: fittingEntries(group, architecture) }));
  const known = new Set([...named.values()].flat().map((entry) => entry.digest));
  return {
    images: chosen.flatMap(({ fitting }) => (fitting.length === 1 ? fitting : [])),
    refused: chosen.flatMap(({ name, group, fitting }) =>
      fitting.length === 1 ? [] : [{ reference: name, error: errorRecord(ambiguous(name, group, where)) }],
    ),
    skipped: [
      ...index.skipped.map(({ place, reason }) => `${where}: ${place} is left out: ${reason}`),
      ...unnamed.filter((entry) => !known.has(entry.digest)).map((entry) => `${where}: ${entry.place} is left out: ${whyUnnamed(entry)}`),
    ],
  };
}

/**
 * Reads a layout, and leaves out named entries that are not images.
 * @throws PrestageError ERR_LAYOUT if the directory is not a layout, its index cannot be read, or no image in it has a full name
 */
export async function readNamedLayout(directory: string, architecture: string): Promise<NamedLayout> {
  const where = join(directory, OCI_INDEX_FILE);
  const index = await readOciIndex(directory);
  // Attachments belong to their image and have no name of their own.
  const found = nameEntries({ ...index, entries: await withoutAttached(directory, index.entries) }, where, architecture);
  const images: NamedEntry[] = [];
  const skipped = [...found.skipped];
  for (const entry of found.images) {
    const reason = await layoutImage(directory, entry.digest, architecture).then(
      () => undefined,
      // Other faults of an image are reported when it is checked or loaded.
      (error: unknown) => (error instanceof PrestageError && error.code === 'ERR_NOT_IMAGE' ? error.message : undefined),
    );
    if (reason === undefined) images.push(entry);
    else skipped.push(`${where}: ${entry.place}, ${entry.name}, is left out: ${reason}`);
  }
  if (images.length === 0 && found.refused.length === 0) throw noNamedImage(where, skipped);
  return { ...found, images, skipped };
}

function noNamedImage(where: string, skipped: readonly string[]): PrestageError {
  return new PrestageError(
    'ERR_LAYOUT',
    listFaults(`${where} has no image with a full name`, skipped.length === 0 ? [`${where}: it has no entries`] : skipped),
    'Give the images full names in the layout, or build a bundle from a list that names them by digest',
  );
}

/** The entry for the platform, if exactly one of several fits; otherwise all entries. */
function fittingEntries(group: readonly NamedEntry[], architecture: string): readonly NamedEntry[] {
  const fitting = group.filter(({ platform }) => platform?.os === 'linux' && platform.architecture === architecture);
  return group.length > 1 && fitting.length === 1 ? fitting : group;
}

function whyUnnamed({ reference, digest }: PlacedEntry): string {
  if (reference === '') return `${digest} has no name`;
  return `${digest} is named ${quoteInput(reference)}, which is not a full name (registry/repository:tag)`;
}

function ambiguous(name: string, group: readonly NamedEntry[], where: string): PrestageError {
  const several = group.map(({ place, digest }) => `${place} (${digest})`).join(' and ');
  return new PrestageError(
    'ERR_LAYOUT',
    `${where}: ${name} is the name of several images: ${several}`,
    'Keep one of them under that name, or build a bundle with the image listed by its digest',
  );
}
