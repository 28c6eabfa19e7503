import { join } from 'node:path';
import type { MachineFiles } from './trees.ts';

/** Enough for a store image in memory beside all that a live system has there. */
const MEMORY_MIB = 2560;
/** Drivers that udev would load for what nobody uses here; each takes an emulated processor some tenths of a second. */
const NOT_LOADED = [
  'ahci',
  'kvm_amd',
  'kvm_intel',
  'cryptd',
  'aesni_intel',
  'ghash_clmulni_intel',
  'sha512_ssse3',
  'sha256_ssse3',
  'sha1_ssse3',
];
/** Source: Linux, Documentation/admin-guide/kernel-parameters.rst. */
const KERNEL_WORDS = [
  ...['console=ttyS0', 'panic=-1', 'loglevel=4', 'systemd.show_status=0', 'mitigations=off', 'audit=0', 'apparmor=0'],
  `modprobe.blacklist=${NOT_LOADED.join(',')}`,
];
/** By which the guest's agent is found. Source: QEMU, docs/interop/qemu-ga.rst. */
const AGENT_PORT = 'org.qemu.guest_agent.0';

export interface QemuOptions {
  readonly files: MachineFiles;
  /** Words for the kernel's command line, for our init; see guest/init.sh. */
  readonly words: readonly string[];
  /** Images of the disks after the one with the root: /dev/vdb and on. */
  readonly disks: readonly string[];
  /** Socket by which the guest's agent is asked. */
  readonly agentSocket: string;
  /** File that gets what the guest's kernel and systemd say. */
  readonly console: string;
}

/** The argv of a machine of two processors, emulated, without any network; a reboot ends it. Pure. */
export function qemuArgv(tree: string, options: QemuOptions): readonly string[] {
  const { files, words, disks, agentSocket, console } = options;
  const libraries = join(tree, 'usr/lib/x86_64-linux-gnu');
  const share = join(tree, 'usr/share');
  const drive = (file: string, rest: string): readonly string[] => ['-drive', `file=${file},format=raw,if=virtio,${rest}`];
  return [
    join(libraries, 'ld-linux-x86-64.so.2'),
    ...['--library-path', libraries, join(tree, 'usr/bin/qemu-system-x86_64')],
    ...['-L', join(share, 'qemu'), '-L', join(share, 'seabios')],
    ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', String(MEMORY_MIB), '-machine', 'q35'],
    ...['-nographic', '-nodefaults', '-no-reboot', '-serial', `file:${console}`],
    ...['-kernel', files.kernel, '-initrd', files.initrd, '-append', [...KERNEL_WORDS, ...words].join(' ')],
    ...drive(files.rootImage, 'readonly=on,cache=writeback'),
    ...disks.flatMap((disk) => drive(disk, 'cache=writeback')),
    ...['-device', 'virtio-serial', '-chardev', `socket,id=agent,path=${agentSocket},server=on,wait=off`],
    ...['-device', `virtserialport,chardev=agent,name=${AGENT_PORT}`],
  ];
}
