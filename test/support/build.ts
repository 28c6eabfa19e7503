import { createHash } from 'node:crypto';
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from '../../agent/factory/compose/build.ts';
import type { BuildOptions, BuildReport } from '../../agent/factory/compose/options.ts';
import { plainAct } from '../../agent/host/acts.ts';
import { linuxHost } from '../../agent/host/linux.ts';
import { type ImageSet, MAPPED_TAG } from './image-set.ts';
import { type MadeImage, writeOciLayout } from './images.ts';

/** Why store images cannot be built here, in words; undefined where they can. */
export function storesUnavailable(): string | undefined {
  return process.getuid?.() === 0 ? undefined : 'store images take root';
}

/** An OCI image layout as `pull` leaves it: with the lists of both stages beside it, and the mapping that gives one image a tag. */
export async function writePulled(set: ImageSet, directory: string): Promise<string> {
  await mkdir(directory, { recursive: true });
  await writeOciLayout(set.store, set.all, directory);
  await writeFile(join(directory, 'ai-images.txt'), listOf(set.discovery));
  await writeFile(join(directory, 'ocp-images.txt'), listOf(set.installed));
  await writeFile(join(directory, 'mapping.txt'), `${set.images.zstd.reference}=registry.example.com:5000/ocp4/openshift4:${MAPPED_TAG}\n`);
  return directory;
}

export function listOf(images: readonly MadeImage[]): string {
  return images.map((image) => `${image.reference}\n`).join('');
}

/** What a build said, and what came of it. */
export interface Built {
  readonly report: BuildReport;
  readonly messages: readonly string[];
}

/** Builds with what a test leaves out set to something usual. */
export async function runBuild(options: Pick<BuildOptions, 'from' | 'to'> & Partial<BuildOptions>): Promise<Built> {
  const messages: string[] = [];
  const host = linuxHost({ root: '/', env: {}, log: (severity, message) => messages.push(`${severity}: ${message}`) });
  const report = await build(host, {
    lists: {},
    payloads: ['oci'],
    architecture: 'amd64',
    agents: [],
    jobs: 2,
    isDry: false,
    requiresSignatures: false,
    compression: 'auto',
    skipsArtifacts: false,
    act: plainAct,
    signal: new AbortController().signal,
    say: (text) => messages.push(text),
    ...options,
  });
  return { report, messages };
}

/** The sha256 of every file below a directory by its path, without what a build keeps for itself. */
export async function hashesBelow(directory: string): Promise<Readonly<Record<string, string>>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const own = files.map((path) => path.slice(directory.length + 1)).filter((path) => !path.startsWith('.build/'));
  const hashes = await Promise.all(
    own.toSorted().map(
      async (path) =>
        [
          path,
          createHash('sha256')
            .update(await readFile(join(directory, path)))
            .digest('hex'),
        ] as const,
    ),
  );
  return Object.fromEntries(hashes);
}

/** An executable for a processor, as far as its header says. */
export async function writeElf(path: string, machine: number, content = 'program'): Promise<string> {
  const header = Buffer.alloc(64);
  header.write('\x7fELF\x02\x01\x01', 'latin1');
  header.writeUInt16LE(machine, 18);
  await writeFile(path, Buffer.concat([header, Buffer.from(content)]));
  return path;
}

/** A copy of a layout with bytes of its own, for a test to change. */
export async function copyLayout(from: string, to: string): Promise<string> {
  await mkdir(join(to, 'blobs/sha256'), { recursive: true });
  for (const name of await readdir(join(from, 'blobs/sha256')))
    await copyFile(join(from, 'blobs/sha256', name), join(to, 'blobs/sha256', name));
  for (const name of ['oci-layout', 'index.json', 'ai-images.txt', 'ocp-images.txt', 'mapping.txt'])
    await copyFile(join(from, name), join(to, name));
  return to;
}
