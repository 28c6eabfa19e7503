/**
 * Whether an OpenShift release is older than another, by major and minor number alone; undefined if it is not known. Pure.
 * @param release such as 4.12.30 or 4.16.0-rc.1; empty if it is not known
 * @param than such as 4.13
 */
export function isOlderRelease(release: string, than: string): boolean | undefined {
  const [one, other] = [numbersOf(release), numbersOf(than)];
  if (one === undefined || other === undefined) return undefined;
  return one.major === other.major ? one.minor < other.minor : one.major < other.major;
}

function numbersOf(release: string): { readonly major: number; readonly minor: number } | undefined {
  const [, major, minor] = /^(\d{1,4})\.(\d{1,4})(?!\d)/.exec(release) ?? [];
  return major === undefined || minor === undefined ? undefined : { major: Number(major), minor: Number(minor) };
}

/** From this release on nodes have a kernel of RHEL 9, which reads zstd in a squashfs; those of before build their own images with gzip. */
export const FIRST_WITH_ZSTD = '4.13';

/** Why the nodes of a release cannot be expected to mount a squashfs of a compression; undefined if they can, or if the release is not known. Pure. */
export function squashfsObstacle(release: string, algorithm: string): string | undefined {
  if (algorithm !== 'zstd' || isOlderRelease(release, FIRST_WITH_ZSTD) !== true) return undefined;
  return `packed with zstd, which a kernel of ${release} cannot be expected to mount`;
}
