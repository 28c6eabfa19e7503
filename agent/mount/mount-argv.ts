import type { Stage } from '../model/stage.ts';

/** The argv of the programs that open and close a store image. Pure. Sources: mount(8), veritysetup(8). */

/** Containers may read and execute files with this label, and nobody may write them. */
const SELINUX_CONTEXT = 'system_u:object_r:container_ro_file_t:s0';
/**
 * `noexec` holds for programs that are started from this mount itself. Containers see the files through an overlay with flags of its own: they
 * run, and setuid programs work in them.
 */
const STRICT = 'ro,nosuid,nodev,noexec';
/** Page and directory of the tmpfs itself, and the rounding of two files to whole pages. */
const TMPFS_SLACK_BYTES = 1024 * 1024;

export interface SquashfsMount {
  /** A file, which gets a loop device that is removed with the mount, or a block device. */
  readonly source: string;
  readonly isFile: boolean;
  readonly target: string;
  readonly hasSelinux: boolean;
}

export function squashfsMountArgs({ source, isFile, target, hasSelinux }: SquashfsMount): readonly string[] {
  const options = [...(isFile ? ['loop'] : []), STRICT, ...(hasSelinux ? [`context="${SELINUX_CONTEXT}"`] : [])];
  return ['-t', 'squashfs', '-o', options.join(','), source, target];
}

/** mount(8) makes two system calls for it. All flags are named, because the second call replaces the flags of the source. */
export function bindMountArgs(source: string, target: string): readonly string[] {
  return ['-o', `bind,${STRICT}`, source, target];
}

/** @param contentBytes what it must be able to hold */
export function tmpfsMountArgs(contentBytes: number, target: string): readonly string[] {
  return ['-t', 'tmpfs', '-o', `size=${contentBytes + TMPFS_SLACK_BYTES},mode=0700,nosuid,nodev,noexec`, 'prestage-agent', target];
}

/** Name of the device-mapper device of a stage. */
function verityName(stage: Stage): string {
  return `prestage-${stage}`;
}

export function verityDevice(stage: Stage): string {
  return `/dev/mapper/${verityName(stage)}`;
}

export interface VerityOpening {
  readonly stage: Stage;
  readonly image: string;
  readonly hashTree: string;
  /** 64 lower-case hex digits. */
  readonly rootHash: string;
}

export function verityOpenArgs({ stage, image, hashTree, rootHash }: VerityOpening): readonly string[] {
  return ['open', image, verityName(stage), hashTree, rootHash];
}

export function verityCloseArgs(stage: Stage): readonly string[] {
  return ['close', verityName(stage)];
}

/**
 * Programs that remove a device with its last user, in the order in which they are tried. The veritysetup of RHEL 8 (cryptsetup 2.3.7) does not have
 * the option; dmsetup does. Sources: veritysetup(8), close; dmsetup(8), remove.
 */
export function verityDeferredCloses(stage: Stage): readonly { readonly file: string; readonly args: readonly string[] }[] {
  return [
    { file: 'veritysetup', args: ['close', '--deferred', verityName(stage)] },
    { file: 'dmsetup', args: ['remove', '--deferred', verityName(stage)] },
  ];
}
