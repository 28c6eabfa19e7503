/** What a container needs to be the machine of a test. */
export interface NspawnOptions {
  readonly name: string;
  readonly root: string;
  /** Directory that is bound over its /usr, read-only. */
  readonly usr: string;
  /** Path of its network namespace: never the one of this machine, whose interfaces its systemd would rename. */
  readonly network: string;
  /** Device nodes that it has besides. */
  readonly devices: readonly string[];
}

/** Enters a control group of its own ($1) in the unified hierarchy, whichever this machine uses, then becomes the rest of the arguments. */
export const ENTER_GROUP = `set -e
umount -R /sys/fs/cgroup 2>/dev/null || :
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$1"
echo 0 >"/sys/fs/cgroup/$1/cgroup.procs"
shift
exec "$@"`;

/** With `network`, the machine may write what belongs to its network namespace and nothing of /proc/sys besides. Source: systemd-nspawn(1). */
export const NSPAWN_ENV = { SYSTEMD_NSPAWN_API_VFS_WRITABLE: 'network' } as const;

/** Exit code by which systemd-nspawn says that the machine asked for a reboot. */
export const REBOOT = 133;

/** The argv of a machine: systemd as its first process, with the rights to mount, to attach loop devices and to run containers. */
export function nspawnArgv(options: NspawnOptions): readonly string[] {
  const { name, root, usr, network, devices } = options;
  return [
    'systemd-nspawn',
    ...['--quiet', '--boot', `--directory=${root}`, `--machine=${name}`, '--console=pipe', '--link-journal=no'],
    // Name servers of this machine are none of theirs.
    ...['--register=no', '--keep-unit', `--network-namespace-path=${network}`, '--resolv-conf=off'],
    ...['--capability=all', '--system-call-filter=@keyring bpf perf_event_open @mount @module'],
    `--bind-ro=${usr}:/usr`,
    ...['/dev/loop-control', '/dev/fuse', ...devices].map((device) => `--bind=${device}`),
  ];
}
