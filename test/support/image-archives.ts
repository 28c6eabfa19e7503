import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import pLimit from 'p-limit';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { type MadeImage, writeDirLayout } from './images.ts';

export interface ArchiveFolder {
  /** List files by name, with the images that each holds. */
  readonly lists: Readonly<Record<string, readonly MadeImage[]>>;
  /** Lines of mapping.txt; no such file where left out. */
  readonly mapping?: readonly string[];
}

/** The name of an image's archive without `.tgz`: `basename REFERENCE`, its first `:` turned into `_`. */
export function archiveName(reference: string): string {
  return basename(reference).replace(':', '_');
}

/**
 * Writes the folder that the prototype makes on a data partition: list files, mapping.txt, and one archive per image by
 * `tar czf NAME.tgz NAME` over a `dir:` layout.
 * @param store where the images' blobs lie
 */
export async function writeArchives(store: string, directory: string, folder: ArchiveFolder): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const [name, images] of Object.entries(folder.lists)) {
    await writeFile(join(directory, name), images.map((image) => `${image.reference}\n`).join(''));
  }
  if (folder.mapping) await writeFile(join(directory, 'mapping.txt'), folder.mapping.map((line) => `${line}\n`).join(''));
  const images = new Map(Object.values(folder.lists).flatMap((list) => list.map((image) => [image.reference, image])));
  // Below the store, so that the layouts are hard links and cost no space.
  const work = await mkdtemp(join(store, '.archives-'));
  try {
    // Links come and go before and after all archives are written: tar takes a new link for a change of the file.
    for (const image of images.values()) await writeDirLayout(store, image, join(work, archiveName(image.reference)));
    const limit = pLimit(availableParallelism());
    const written = await Promise.allSettled([...images.keys()].map((reference) => limit(() => writeArchive(reference, work, directory))));
    for (const result of written) if (result.status === 'rejected') throw result.reason;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function writeArchive(reference: string, work: string, directory: string): Promise<void> {
  const name = archiveName(reference);
  await output(execOnLinux, 'tar', ['czf', join(directory, `${name}.tgz`), name], { cwd: work });
}
