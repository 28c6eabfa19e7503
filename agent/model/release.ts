/**
 * Whether an OpenShift release is older than another, by major and minor number only; undefined if that is not known. Pure.
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

/** From this release on, nodes have a RHEL 9 kernel, which reads squashfs with zstd; older releases use gzip for their own images. */
export const FIRST_WITH_ZSTD = '4.13';

/** Why nodes of a release probably cannot mount a squashfs with a compression; undefined if they can, or if the release is not known. Pure. */
export function squashfsObstacle(release: string, algorithm: string): string | undefined {
  if (algorithm !== 'zstd' || isOlderRelease(release, FIRST_WITH_ZSTD) !== true) return undefined;
  return `packed with zstd, and the kernel of ${release} probably cannot mount that`;
}
