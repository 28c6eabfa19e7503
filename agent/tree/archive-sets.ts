import { lstat, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';

/** One archive file of oc-mirror. A change of the file shows in its size or time. */
export interface OcMirrorArchive {
  readonly path: string;
  /** The number in its name, from 1. */
  readonly number: number;
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

/** The archives of one run of oc-mirror, all in one folder. */
export interface OcMirrorSet {
  readonly directory: string;
  /** Sorted by number. */
  readonly archives: readonly OcMirrorArchive[];
  /** Missing numbers below the highest one. Whether archives with higher numbers are missing is unknown. */
  readonly gaps: readonly number[];
}

/** A folder of oc-mirror: the archives of one run or of several. */
export interface OcMirrorFolder {
  /** In the order in which they build on each other. */
  readonly sets: readonly OcMirrorSet[];
  /** Paths of IDMS and ITMS files beside them. */
  readonly resources: readonly string[];
}

/** `mirror_%06d.tar`. Source: openshift/oc-mirror, internal/pkg/archive/const.go, archiveFileNameFormat. */
const ARCHIVE = /^mirror_([0-9]{6}|[1-9][0-9]{6,8})\.tar$/;
/** Where oc-mirror writes IDMS and ITMS when it mirrors to a registry. Archives never contain them, because oc-mirror empties the folder first. */
const RESOURCE_FOLDERS = ['', 'cluster-resources', 'working-dir/cluster-resources'];
const RESOURCE = /^(?:idms|itms)-oc-mirror\.ya?ml$/;

/**
 * Recognizes a folder of oc-mirror v2. oc-mirror removes earlier archives from the folder that it writes to. So the archives of later runs, which
 * hold only new blobs, are in subfolders, which apply in the order of their names, with numbers compared as numbers.
 * @returns undefined if neither the folder nor a subfolder holds an archive
 */
export async function findOcMirror(directory: string): Promise<OcMirrorFolder | undefined> {
  const entries = await readdir(directory, { withFileTypes: true });
  const below = entries.filter((entry) => entry.isDirectory() && entry.name !== 'working-dir').map((entry) => entry.name);
  const folders = ['', ...below.toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }))].map((name) => join(directory, name));
  const found = await Promise.all(folders.map(async (folder) => await archivesIn(folder)));
  const archives = found.flat();
  if (archives.length === 0) return undefined;
  const resources = await Promise.all(
    folders.flatMap((folder) => RESOURCE_FOLDERS.map(async (name) => await resourcesIn(join(folder, name)))),
  );
  return { sets: setsOf(archives), resources: resources.flat() };
}

/**
 * Describes the archives at these paths, in the same order.
 * @throws PrestageError ERR_MIRROR for a name that oc-mirror does not use, and for anything but a regular file
 */
export async function describeArchives(paths: readonly string[]): Promise<readonly OcMirrorArchive[]> {
  return await Promise.all(
    paths.map(async (path) => {
      const number = numberOf(path.slice(path.lastIndexOf('/') + 1));
      const found = await lstat(path).catch((error: NodeJS.ErrnoException) => reasonOf(error));
      if (typeof found === 'string') throw unusable(`${path} cannot be read: ${found}`);
      if (number === undefined || !found.isFile()) throw unusable(`${path} is not a regular file named mirror_NNNNNN.tar`);
      return { path, number, sizeBytes: found.size, modifiedMs: found.mtimeMs };
    }),
  );
}

/** Groups archives by folder; the folders keep their order. Pure. */
export function setsOf(archives: readonly OcMirrorArchive[]): readonly OcMirrorSet[] {
  return [...Map.groupBy(archives, (archive) => dirname(archive.path))].map(([directory, members]) => {
    const ordered = members.toSorted((a, b) => a.number - b.number);
    const numbers = new Set(ordered.map((archive) => archive.number));
    const highest = ordered.at(-1)?.number ?? 0;
    // A hostile name must not cause a list of a billion numbers.
    const gaps = Array.from({ length: Math.min(highest, GAP_LIMIT) }, (_, index) => index + 1).filter((number) => !numbers.has(number));
    return { directory, archives: ordered, gaps };
  });
}

/** The file name of an archive by its number. */
export function archiveFileName(number: number): string {
  return `mirror_${String(number).padStart(6, '0')}.tar`;
}

/** Highest number that is looked for. oc-mirror's smallest archive size is 1 GiB, so a thousand archives are 1 TiB. */
const GAP_LIMIT = 10_000;

async function archivesIn(folder: string): Promise<readonly OcMirrorArchive[]> {
  const names = await readdir(folder);
  return await describeArchives(names.filter((name) => numberOf(name) !== undefined).map((name) => join(folder, name)));
}

async function resourcesIn(folder: string): Promise<readonly string[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
    throw error;
  });
  return names
    .filter((name) => RESOURCE.test(name))
    .toSorted()
    .map((name) => join(folder, name));
}

function numberOf(name: string): number | undefined {
  const digits = ARCHIVE.exec(name)?.[1];
  return digits === undefined || Number(digits) === 0 ? undefined : Number(digits);
}

function unusable(message: string): PrestageError {
  return new PrestageError('ERR_MIRROR', message, 'Copy the archives of oc-mirror there as regular files, with their original names');
}
