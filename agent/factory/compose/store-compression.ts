import { STORE_ALGORITHMS, type StoreCompression } from '../../model/bundle.ts';
import { PrestageError } from '../../model/errors.ts';
import { FIRST_WITH_ZSTD, isOlderRelease } from '../../model/release.ts';

/** The choices of an operator. */
export const COMPRESSION_CHOICES = ['auto', ...STORE_ALGORITHMS] as const;
export type CompressionChoice = (typeof COMPRESSION_CHOICES)[number];

/** How store images are packed. */
export interface CompressionPlan extends StoreCompression {
  readonly reason: string;
}

/**
 * Levels of mksquashfs(1) and the default one; xz has none. Chosen by `npm run bench -- --only compression`. A store of
 * 770 MiB: zstd 15 takes 104 s of CPU and 148.7 MiB, 9 takes 18.5 s and 159.0 MiB, 6 takes 18.0 s and 161.3 MiB; gzip 9 takes 108 s and 165.8 MiB,
 * 6 takes 31 s and 167.1 MiB. docs/rationale.md has the whole table.
 */
const LEVELS = {
  gzip: { least: 1, most: 9, usual: 6 },
  zstd: { least: 1, most: 22, usual: 9 },
} as const;

/**
 * Decides how store images are compressed. `auto` goes by the release: that its nodes can mount the image counts more than size. Pure.
 * @param release such as 4.14.0; empty if it is not known
 * @throws PrestageError ERR_USAGE for a level that the compression does not have
 */
export function planCompression(release: string, wanted: CompressionChoice, level: number | undefined): CompressionPlan {
  const { algorithm, reason } = chosen(release, wanted);
  if (algorithm === 'xz') {
    if (level !== undefined) throw badLevel(level, 'xz has no levels', reason);
    return { algorithm, reason };
  }
  const { least, most, usual } = LEVELS[algorithm];
  if (level !== undefined && (level < least || level > most))
    throw badLevel(level, `${algorithm} has levels from ${least} to ${most}`, reason);
  return { algorithm, level: level ?? usual, reason };
}

function chosen(release: string, wanted: CompressionChoice): Pick<CompressionPlan, 'algorithm' | 'reason'> {
  if (wanted !== 'auto') return { algorithm: wanted, reason: 'asked for' };
  const isOld = isOlderRelease(release, FIRST_WITH_ZSTD);
  if (isOld === undefined) {
    return { algorithm: 'zstd', reason: `the release is not known; nodes before ${FIRST_WITH_ZSTD} need --store-compression gzip` };
  }
  return isOld
    ? { algorithm: 'gzip', reason: `a kernel of ${release} may not read zstd` }
    : { algorithm: 'zstd', reason: `the kernel of ${release} reads it` };
}

function badLevel(level: number, has: string, reason: string): PrestageError {
  return new PrestageError(
    'ERR_USAGE',
    `--store-level is ${level}, but ${has} (the compression: ${reason})`,
    'Leave out --store-level, or give a level that the compression has',
  );
}

/** Options of mksquashfs(1). Pure. */
export function compressionArgs({ algorithm, level }: StoreCompression): readonly string[] {
  return ['-comp', algorithm, ...(level === undefined ? [] : ['-Xcompression-level', String(level)])];
}
