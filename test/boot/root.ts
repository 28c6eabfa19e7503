import { chmod, mkdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { cached } from '../support/cache.ts';

const SUITE = 'trixie';
const LIMIT_MS = 600_000;
const PACKAGES = [
  ...['systemd', 'systemd-sysv', 'dbus', 'util-linux', 'mount', 'iproute2', 'procps', 'jq', 'curl', 'ca-certificates'],
  ...['podman', 'skopeo', 'crun', 'netavark', 'aardvark-dns', 'iptables', 'nftables', 'passt'],
  ...['xfsprogs', 'e2fsprogs', 'gdisk', 'ignition', 'cryptsetup-bin', 'cosign', 'gpgv'],
  // For what drives the proxy of skopeo in place of rpm-ostree.
  'python3',
];

/** What a node has in place of the distribution's own: all that is started is named by Ignition's presets, as on RHCOS. */
const FILES: Readonly<Record<string, string>> = {
  // machine-id(5), "First Boot Semantics": the presets of units are applied.
  'etc/machine-id': 'uninitialized\n',
  // Ignition's own presets are number 20.
  'usr/lib/systemd/system-preset/30-nothing-else.preset': 'disable *\n',
  'etc/containers/containers.conf': '[containers]\ncgroups = "disabled"\n',
  'etc/systemd/journald.conf.d/50-boot.conf': '[Journal]\nStorage=persistent\nRateLimitBurst=0\nCompress=no\n',
  // There is no udev, and a loop device is made by its number alone: /dev/loop-control says which.
  'etc/tmpfiles.d/loops.conf': Array.from({ length: 32 }, (_, number) => `b /dev/loop${number} 0660 root disk - 7:${number}\n`).join(''),
  'etc/tmpfiles.d/ostree-booted.conf': 'f /run/ostree-booted 0644 root root -\n',
};

const MASKED = ['systemd-modules-load.service', 'systemd-firstboot.service', 'getty.target', 'timers.target', 'systemd-pcrphase.service'];

/** Directories that RHCOS keeps on /var because /usr and the top are read-only. Source: rpm-ostree, "Filesystem layout". */
const MOVED = { 'usr/local': '../var/usrlocal', opt: 'var/opt', mnt: 'var/mnt' } as const;

/** A Debian root with systemd and the container tools of a node, laid out as RHCOS is. It is kept between runs: never write there. */
export async function nodeRoot(): Promise<string> {
  const directory = await cached({ name: 'boot-root', makers: [import.meta.filename] }, (made) => makeNodeRoot(join(made, 'root')));
  return join(directory, 'root');
}

/** Makes such a root, with further packages where they are named. */
export async function makeNodeRoot(root: string, packages: readonly string[] = []): Promise<void> {
  const args = ['--variant=minbase', '--format=directory', `--include=${[...PACKAGES, ...packages].join(',')}`, SUITE, root];
  await output(execOnLinux, 'mmdebstrap', args, { timeoutMs: LIMIT_MS });
  await chmod(root, 0o755);
  const unwanted = [
    'etc/hostname',
    'etc/resolv.conf',
    'var/lib/dpkg',
    'var/lib/apt',
    'var/cache',
    'var/log',
    'usr/share/doc',
    'usr/share/man',
  ];
  for (const path of unwanted) await rm(join(root, path), { recursive: true, force: true });
  await output(execOnLinux, 'find', [join(root, 'etc/systemd/system'), '-name', '*.wants', '-exec', 'rm', '-r', '{}', '+']);
  for (const path of ['var/cache', 'var/log/journal', 'var/usrlocal/bin', 'var/opt', 'var/mnt'])
    await mkdir(join(root, path), { recursive: true });
  for (const [path, target] of Object.entries(MOVED)) {
    await rm(join(root, path), { recursive: true, force: true });
    await symlink(target, join(root, path));
  }
  for (const [path, text] of Object.entries(FILES)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
  await symlink('/usr/lib/systemd/system/multi-user.target', join(root, 'etc/systemd/system/default.target'));
  for (const unit of MASKED) await symlink('/dev/null', join(root, 'etc/systemd/system', unit));
  // Not older than /usr, so that nothing is updated at boot. Source: systemd-update-done.service(8).
  const now = new Date();
  for (const path of ['usr', 'etc/.updated', 'var/.updated']) {
    if (path !== 'usr') await writeFile(join(root, path), '');
    await utimes(join(root, path), now, now);
  }
}
