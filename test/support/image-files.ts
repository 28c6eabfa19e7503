import { createHash } from 'node:crypto';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import type { LayerEntry } from './image-layer.ts';

/**
 * A small root file system in which programs of this machine run: the programs, the libraries and the loader that ldd(1) names,
 * and the few files that a shell and a container engine look for.
 */
export async function runnableRoot(programs: readonly string[]): Promise<readonly LayerEntry[]> {
  const files = new Map<string, string>();
  const links = new Map<string, string>();
  for (const program of programs) {
    const path = await findProgram(program);
    files.set(`usr/bin/${program}`, await realpath(path));
    for (const library of await librariesOf(path)) {
      files.set(join(relative(await realpath(dirname(library))), basename(library)), await realpath(library));
      const top = `/${library.split('/')[1] ?? ''}`;
      const target = await realpath(top);
      if (target !== top) links.set(relative(top), relative(target));
    }
  }
  const directories = new Set(['etc', 'proc', 'root', 'sys', 'dev', 'tmp', 'usr', 'usr/bin']);
  for (const path of [...files.keys(), ...links.values()].flatMap(parents)) directories.add(path);
  links.set('bin', 'usr/bin');
  return [
    ...[...directories].sort().map((path): LayerEntry => ({ kind: 'directory', path, mode: path === 'tmp' ? 0o1777 : 0o755 })),
    ...[...links].sort(byPath).map(([path, target]): LayerEntry => ({ kind: 'symlink', path, target })),
    { kind: 'file', path: 'etc/passwd', content: 'root:x:0:0:root:/root:/bin/sh\n' },
    { kind: 'file', path: 'etc/group', content: 'root:x:0:\n' },
    { kind: 'file', path: 'etc/os-release', content: 'ID=prestage-test\nNAME="Prestage test image"\n' },
    ...[...files].sort(byPath).map(([path, from]): LayerEntry => ({ kind: 'copy', path, from, mode: 0o755 })),
  ];
}

/** A regular file of this machine. */
export interface MachineFile {
  readonly path: string;
  readonly sizeBytes: number;
}

/** All regular files below directories that a filter takes, in an order that only the paths decide and that mixes kinds and sizes well. */
export async function machineFiles(roots: readonly string[], takes: (file: MachineFile) => boolean): Promise<readonly MachineFile[]> {
  const found: { readonly file: MachineFile; readonly order: string }[] = [];
  for (const root of roots) {
    const entries = await readdir(root, { withFileTypes: true, recursive: true }).catch(() => []);
    for (const entry of entries) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      const file = { path, sizeBytes: (await stat(path)).size };
      if (takes(file)) found.push({ file, order: createHash('sha1').update(path).digest('hex') });
    }
  }
  return found.sort((a, b) => (a.order < b.order ? -1 : 1)).map(({ file }) => file);
}

/**
 * Hands out files in turn, up to the wanted bytes and at least 98 % of them; passes over what is too big for the rest, and begins
 * again where the files are used up.
 */
export function dealer(files: readonly MachineFile[]): (bytes: number) => readonly MachineFile[] {
  let next = 0;
  return (bytes) => {
    const hand: MachineFile[] = [];
    let left = bytes;
    for (let tries = 0; tries < files.length && left > bytes * 0.02; tries++) {
      const file = files[next++ % files.length];
      if (!file || file.sizeBytes > left) continue;
      hand.push(file);
      left -= file.sizeBytes;
    }
    return hand;
  };
}

/** Files in one directory of a layer, as many as packages have: with their own directories, dealt files would bring one for each. */
const FILES_PER_DIRECTORY = 50;

/** The files as layer entries below a directory of their own, numbered, so that equal names do not meet. */
export function placed(files: readonly MachineFile[], below: string): readonly LayerEntry[] {
  const directories = Array.from({ length: Math.ceil(files.length / FILES_PER_DIRECTORY) }, (_, index) => join(below, String(index)));
  return [
    ...[...parents(below), below, ...directories].map((path): LayerEntry => ({ kind: 'directory', path })),
    ...files.map((file, index): LayerEntry => {
      const directory = directories[Math.floor(index / FILES_PER_DIRECTORY)] ?? below;
      return { kind: 'copy', path: join(directory, `${index}-${basename(file.path)}`), from: file.path };
    }),
  ];
}

async function findProgram(name: string): Promise<string> {
  const path = await output(execOnLinux, 'sh', ['-c', 'command -v -- "$1"', 'sh', name]);
  return path.trim();
}

/** Paths in the output of ldd(1): `libc.so.6 => /lib/…/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`. */
async function librariesOf(program: string): Promise<readonly string[]> {
  const text = await output(execOnLinux, 'ldd', [program]);
  return text.split('\n').flatMap((line) => /(?:=>\s*|^\s*)(\/\S+)/.exec(line)?.[1] ?? []);
}

function relative(path: string): string {
  return path.replace(/^\/+/, '');
}

function parents(path: string): readonly string[] {
  const parent = dirname(path);
  return parent === '.' ? [] : [...parents(parent), parent];
}

function byPath([a]: readonly [string, string], [b]: readonly [string, string]): number {
  return a < b ? -1 : 1;
}
