import { mkdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Exec, type ExecResult, execOnLinux, output } from '../../agent/host/exec.ts';
import { type Host, hostPath } from '../../agent/host/host.ts';
import { verityDevice } from '../../agent/mount/mount-argv.ts';

const DIRECTORY = dirname(verityDevice('installed'));

/** A host whose `veritysetup` makes devices of loop devices: they mount and stay busy as those of device-mapper do, and check nothing. */
export interface VerityStandIn extends AsyncDisposable {
  readonly host: Host;
  /** How often a device was opened. */
  readonly opened: () => number;
  /** From now on devices close, or do not, or only with their last user by what the cryptsetup of the stand-in and dmsetup know. */
  readonly setClosing: (isPossible: boolean | 'deferred') => void;
  /** What was asked for closing, in order: programs and arguments. */
  readonly closings: readonly string[];
}

/** Of RHEL 8; its veritysetup knows no deferred closing. */
export const OLD_CRYPTSETUP = '2.3.7';

/**
 * For machines whose kernel has no device-mapper, and only in a mount namespace of its own: it covers /dev/mapper.
 * @param cryptsetup the version that it answers as: 2.3.7 refuses `--deferred` as its popt(3) does
 */
export async function verityStandIn(real: Host, cryptsetup = '2.7.0'): Promise<VerityStandIn> {
  await mkdir(DIRECTORY, { recursive: true });
  await output(execOnLinux, 'mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', DIRECTORY]);
  const seen = (name: string): string => hostPath(real, join(DIRECTORY, name));
  await mkdir(dirname(seen('control')), { recursive: true });
  await writeFile(seen('control'), '');
  let opened = 0;
  let canClose: boolean | 'deferred' = true;
  const closings: string[] = [];
  const done: ExecResult = { stdout: '', stderr: '', exitCode: 0 };
  const setUp = async (file: string, [verb, ...args]: readonly string[]): Promise<ExecResult> => {
    if (verb === 'open') {
      const [image = '', name = ''] = args;
      opened++;
      const loop = (await output(execOnLinux, 'losetup', ['--find', '--show', '--read-only', image])).trim();
      const number = (await readFile(`/sys/block/${basename(loop)}/dev`, 'utf8')).trim().split(':');
      await output(execOnLinux, 'mknod', [join(DIRECTORY, name), 'b', ...number]);
      await writeFile(seen(name), loop);
      return done;
    }
    closings.push([file, verb, ...args].join(' '));
    const name = args.at(-1) ?? '';
    const isDeferred = args.includes('--deferred');
    if (isDeferred && file === 'veritysetup' && cryptsetup === OLD_CRYPTSETUP)
      return { ...done, stderr: `Usage: veritysetup [OPTION...] <action> <action-specific>\n--deferred: unknown option`, exitCode: 1 };
    if (canClose === false || (canClose === 'deferred' && !isDeferred))
      return { ...done, stderr: `Device ${name} is still in use.`, exitCode: 5 };
    await output(execOnLinux, 'losetup', ['--detach', await readFile(seen(name), 'utf8')]);
    await rm(join(DIRECTORY, name));
    await rm(seen(name));
    return done;
  };
  const exec: Exec = async (file, args, options) =>
    ['veritysetup', 'dmsetup'].includes(file) ? await setUp(file, args) : await execOnLinux(file, args, options);
  return {
    host: { ...real, exec },
    opened: () => opened,
    closings,
    setClosing: (isPossible) => {
      canClose = isPossible;
    },
    [Symbol.asyncDispose]: async () => {
      await output(execOnLinux, 'umount', [DIRECTORY]);
      await rmdir(DIRECTORY).catch(() => undefined);
    },
  };
}
