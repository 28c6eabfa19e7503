import { join } from 'node:path';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { archiveFileName, type MirrorSet } from './archive-sets.ts';

/** What is wrong with one archive of oc-mirror. */
export interface ArchiveDamage extends ErrorRecord {
  /** Path of the archive. */
  readonly path: string;
}

const COPY_AGAIN = 'Copy the archive again from where oc-mirror wrote it, as it was written there';
/** Archives that an error of a run names. */
const NAMED_LIMIT = 5;

/** What reading an archive of oc-mirror threw, with what to do about it. Pure. */
export function archiveDamage(path: string, error: unknown): ArchiveDamage {
  return { path, ...errorRecord(error), remedy: COPY_AGAIN };
}

/** Archives that must have been there, because those of the same run with higher numbers are. Pure. */
export function absentArchives(sets: readonly MirrorSet[]): readonly ArchiveDamage[] {
  return sets.flatMap(({ directory, gaps }) =>
    gaps.map((number) => {
      const path = join(directory, archiveFileName(number));
      const what = `${path} is not there, and an archive of the same run of oc-mirror with a higher number is`;
      return archiveDamage(path, new PrestageError('ERR_ARCHIVE_MISSING', what, COPY_AGAIN));
    }),
  );
}

/**
 * The error of a run whose archives are not whole: nobody can tell what is lost with them, since the images that they bring may be named in
 * them alone. Pure.
 * @param damage the first one of each archive is told
 * @returns undefined if nothing is wrong
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
    remedy: `Copy ${told.map(({ path }) => path).join(', ')}${more === '' ? '' : ' and the others'} again from where oc-mirror wrote ${byArchive.size === 1 ? 'it' : 'them'}; then start the run again`,
  };
}

/** An error that follows from damage, told behind it. Pure. */
export function afterDamage(damage: ErrorRecord, error: unknown): PrestageError {
  const { message } = errorRecord(error);
  return new PrestageError(damage.code, `${damage.message}; therefore: ${message}`, damage.remedy, { cause: error });
}
