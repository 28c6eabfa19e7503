import { lstat, readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import type { SoakNode } from './node.ts';

/** What must not grow from boot to boot. What is counted on this machine is that of the node alone. */
export interface Footprint {
  /** Below the agent's directory on the disk: what it keeps, and its state. */
  readonly stateFiles: number;
  readonly stateBytes: number;
  /** Below /var/tmp and /tmp of the node. */
  readonly temporaryFiles: number;
  /** Below /etc, as far as it differs from a plain one. */
  readonly etcFiles: number;
  readonly etcBytes: number;
  /** Records in the storage of the engines. */
  readonly images: number;
  readonly layers: number;
  readonly containers: number;
  /** Of the data partition, or of a file on the node's disk; the one of the data disk itself is not counted. */
  readonly loops: number;
  readonly mounts: number;
  readonly namespaces: number;
  /** That have the agent, its bundle or its disk in their argv; counted in a PID namespace of its own. */
  readonly processes: number;
}

/** Looks at a node that is down. */
export async function footprintOf({ disk, data, work }: SoakNode): Promise<Footprint> {
  const [state, temporary, etc] = await Promise.all([
    sizeBelow(join(disk, 'own/var/lib/prestage-agent')),
    sizeBelow(join(disk, 'own/var/tmp')),
    sizeBelow(join(disk, 'upper/etc')),
  ]);
  const storage = join(disk, 'own/var/lib/containers/storage');
  const number = (await readFile(`/sys/class/block/${basename(data.partition)}/dev`, 'utf8')).trim();
  const loops = (await output(execOnLinux, 'losetup', ['--list', '--noheadings', '--raw', '--output', 'BACK-MAJ:MIN,BACK-FILE'])).split(
    '\n',
  );
  return {
    stateFiles: state.files,
    stateBytes: state.bytes,
    temporaryFiles: temporary.files,
    etcFiles: etc.files,
    etcBytes: etc.bytes,
    images: await records(join(storage, 'overlay-images/images.json')),
    layers: await records(join(storage, 'overlay-layers/layers.json')),
    containers: await records(join(storage, 'overlay-containers/containers.json')),
    loops: loops.filter((line) => line.startsWith(`${number} `) || line.includes(`${disk}/`)).length,
    mounts: lines(await readFile('/proc/self/mountinfo', 'utf8')).filter((line) => line.includes(data.partition) || line.includes(disk))
      .length,
    namespaces: lines((await execOnLinux('ip', ['netns', 'list'])).stdout).filter((line) => line.includes(basename(work))).length,
    processes: await processesWith([work, 'prestage-agent/registry']),
  };
}

async function sizeBelow(directory: string): Promise<{ readonly files: number; readonly bytes: number }> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = await Promise.all(
    entries.map(async (entry) => (entry.isFile() ? (await lstat(join(entry.parentPath, entry.name))).size : 0)),
  );
  return { files: entries.length, bytes: sizes.reduce((total, size) => total + size, 0) };
}

async function records(path: string): Promise<number> {
  const text = await readFile(path, 'utf8').catch(() => '[]');
  const all: unknown = JSON.parse(text);
  return Array.isArray(all) ? all.length : 0;
}

async function processesWith(words: readonly string[]): Promise<number> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
  const argvs = await Promise.all(pids.map(async (pid) => await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return argvs.filter((argv) => words.some((word) => argv.includes(word))).length;
}

function lines(text: string): readonly string[] {
  return text.split('\n').filter((line) => line !== '');
}
