import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { makeImage } from './disk.ts';
import { applyIgnition } from './ignition.ts';
import { diskRoot, type MachineRoot } from './machine-root.ts';

/** Sparse. */
const SYSTEM_MIB = 2048;

/** An installed system on a disk of its own, as if the installer had written it, to which Ignition has applied a config. @param name of its image below `work` */
export async function installedRoot(work: string, name: string, config: string): Promise<MachineRoot> {
  const image = await makeImage(join(work, name), SYSTEM_MIB);
  await output(execOnLinux, 'mkfs.ext4', ['-q', '-F', '-L', 'root', image]);
  const root = await diskRoot(work, image);
  try {
    await applyIgnition(config, root.path, work);
  } catch (error) {
    await root[Symbol.asyncDispose]();
    throw error;
  }
  return root;
}
