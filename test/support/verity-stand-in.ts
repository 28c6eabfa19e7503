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
  /** From now on devices close, or do not. */
  readonly setClosing: (isPossible: boolean) => void;
}

/** For machines whose kernel has no device-mapper, and only in a mount namespace of its own: it covers /dev/mapper. */
export async function verityStandIn(real: Host): Promise<VerityStandIn> {
  await mkdir(DIRECTORY, { recursive: true });
  await output(execOnLinux, 'mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', DIRECTORY]);
  const seen = (name: string): string => hostPath(real, join(DIRECTORY, name));
  await mkdir(dirname(seen('control')), { recursive: true });
  await writeFile(seen('control'), '');
  let opened = 0;
  let canClose = true;
  const done: ExecResult = { stdout: '', stderr: '', exitCode: 0 };
  const setUp = async ([verb, ...args]: readonly string[]): Promise<ExecResult> => {
    if (verb === 'open') {
      const [image = '', name = ''] = args;
      opened++;
      const loop = (await output(execOnLinux, 'losetup', ['--find', '--show', '--read-only', image])).trim();
      const number = (await readFile(`/sys/block/${basename(loop)}/dev`, 'utf8')).trim().split(':');
      await output(execOnLinux, 'mknod', [join(DIRECTORY, name), 'b', ...number]);
      await writeFile(seen(name), loop);
      return done;
    }
    const name = args.at(-1) ?? '';
    if (!canClose) return { ...done, stderr: `Device ${name} is still in use.`, exitCode: 5 };
    await output(execOnLinux, 'losetup', ['--detach', await readFile(seen(name), 'utf8')]);
    await rm(join(DIRECTORY, name));
    await rm(seen(name));
    return done;
  };
  const exec: Exec = async (file, args, options) => (file === 'veritysetup' ? await setUp(args) : await execOnLinux(file, args, options));
  return {
    host: { ...real, exec },
    opened: () => opened,
    setClosing: (isPossible) => {
      canClose = isPossible;
    },
    [Symbol.asyncDispose]: async () => {
      await output(execOnLinux, 'umount', [DIRECTORY]);
      await rmdir(DIRECTORY).catch(() => undefined);
    },
  };
}
