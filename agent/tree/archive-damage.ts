import { join } from 'node:path';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { archiveFileName, type OcMirrorSet } from './archive-sets.ts';

/** Damage of one archive of oc-mirror. */
export interface ArchiveDamage extends ErrorRecord {
  /** Path of the archive. */
  readonly path: string;
}

const COPY_AGAIN = 'Copy the archive again, unchanged, from the place where oc-mirror wrote it';
/** Most archives that the error of a run names. */
const NAMED_LIMIT = 5;

/** The record of an error from reading an archive of oc-mirror, with a fitting remedy. Pure. */
export function archiveDamage(path: string, error: unknown): ArchiveDamage {
  return { path, ...errorRecord(error), remedy: COPY_AGAIN };
}

/** Archives that must be missing, because archives of the same run with higher numbers exist. Pure. */
export function absentArchives(sets: readonly OcMirrorSet[]): readonly ArchiveDamage[] {
  return sets.flatMap(({ directory, gaps }) =>
    gaps.map((number) => {
      const path = join(directory, archiveFileName(number));
      const what = `${path} is missing, although an archive of the same oc-mirror run with a higher number exists`;
      return archiveDamage(path, new PrestageError('ERR_ARCHIVE_MISSING', what, COPY_AGAIN));
    }),
  );
}

/**
 * The error of a run whose archives are damaged or missing. What is lost with them is unknown, because only they may name their images. Pure.
 * @param damage only the first entry of each archive is reported
 * @returns undefined if there is no damage
 */
export function damageError(damage: readonly ArchiveDamage[]): ErrorRecord | undefined {
  const byArchive = new Map(damage.toReversed().map((one) => [one.path, one]));
  const [first, ...others] = [...byArchive.values()].toReversed();
  if (first === undefined) return undefined;
  const told = [first, ...others].slice(0, NAMED_LIMIT);
  const more = byArchive.size > told.length ? `; and ${byArchive.size - told.length} more archives` : '';
  return {
    code: first.code,
    message: `${told.map(({ message }) => message).join('; ')}${more}`,
    remedy: `Copy ${told.map(({ path }) => path).join(', ')}${more === '' ? '' : ' and the others'} again from the place where oc-mirror wrote ${byArchive.size === 1 ? 'it' : 'them'}; then start the run again`,
  };
}

/** Joins damage and an error that it caused: the damage comes first. Pure. */
export function afterDamage(damage: ErrorRecord, error: unknown): PrestageError {
  const { message } = errorRecord(error);
  return new PrestageError(damage.code, `${damage.message}; therefore: ${message}`, damage.remedy, { cause: error });
}
