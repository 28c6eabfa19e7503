import { chmod, mkdir, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArchiveFile } from '../../extract/archives.ts';
import { layoutBlobPath } from '../../extract/oci-layout.ts';
import type { ArchivePool } from '../../extract/pool.ts';
import { removeTree } from '../../host/remove-tree.ts';
import { type Digest, digestOfHex, isDigest } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { notImageError } from '../../model/manifest-content.ts';
import type { BuildInput, ImageSource } from './input.ts';
import type { BuildRecord } from './record.ts';

export interface ImportOptions {
  readonly pool: ArchivePool;
  /** GOARCH name. */
  readonly architecture: string;
  /** Directory of our own whose `blobs/sha256` is filled. */
  readonly layout: string;
  readonly signal: AbortSignal;
  readonly onImported: (done: number, of: number) => void;
}

/** What archives hold, by their paths. */
export interface ImportedArchives {
  /** Digest of the manifest, or of the list. */
  readonly tops: ReadonlyMap<string, Digest>;
  /** For archives that hold no image: their content, as a sentence. */
  readonly others: ReadonlyMap<string, string>;
}

/**
 * Unpacks archives into the blobs of an OCI image layout, each blob once and checked against its digest. Of a list, it keeps the manifest and
 * the image for the architecture.
 * @returns by the archive's path, the digest of its manifest or list, or the reason why it holds no image
 * @throws PrestageError of a refused archive; the first ends the import
 */
export async function importArchives(archives: readonly ArchiveFile[], options: ImportOptions): Promise<ImportedArchives> {
  const { pool, architecture, layout, signal } = options;
  const blobs = join(layout, 'blobs/sha256');
  await removeTree(layout);
  await mkdir(blobs, { recursive: true });
  const others = new Map<string, string>();
  const distinct = [...new Map(archives.map((archive) => [archive.path, archive])).values()];
  const surveys = await Promise.all(
    distinct.map(async ({ path, name }) => ({
      path,
      name,
      survey: await pool.survey({ path, name, architecture }, { signal }).catch((error: unknown) => {
        if (!(error instanceof PrestageError) || error.code !== 'ERR_NOT_IMAGE') throw error;
        others.set(path, error.message);
        return undefined;
      }),
    })),
  );
  const claimed = new Set<Digest>();
  let done = 0;
  const tops = await Promise.all(
    surveys.map(async ({ path, name, survey }, index): Promise<readonly (readonly [string, Digest])[]> => {
      if (survey === undefined) return [];
      const writeBlobs = [...new Set(survey.image.layers.map((layer) => layer.digest))].filter((digest) => !claimed.has(digest));
      for (const digest of writeBlobs) claimed.add(digest);
      const to = join(layout, `archive-${index}`);
      await mkdir(to);
      const unpacked = await pool.unpack({ path, name, architecture, writeBlobs, layers: survey.image.layers, to }, { signal });
      const { topDigest, notImage } = unpacked;
      // Even if it is not an image: other archives may rely on it for layers that they share.
      await moveBlobs(to, layout, topDigest);
      options.onImported(++done, distinct.length);
      if (notImage !== undefined) {
        others.set(path, notImageError(path, notImage).message);
        return [];
      }
      return [[path, topDigest]];
    }),
  );
  return { tops: new Map(tops.flat()), others };
}

/** Moves the top manifest, the manifests that a list names, config and layers out of a `dir:` layout. */
async function moveBlobs(from: string, layout: string, top: Digest): Promise<void> {
  for (const file of await readdir(from)) {
    const digest = file === 'manifest.json' ? top : digestOfHex(file.replace(/\.manifest\.json$/, ''));
    if (digest === undefined) continue;
    await chmod(join(from, file), 0o644);
    await rename(join(from, file), layoutBlobPath(layout, digest));
  }
  await removeTree(from);
}

/** The archives of an input, each once. */
export function archivesOf(input: BuildInput): readonly ArchiveFile[] {
  const images = [...input.stages.flatMap((one) => one.images), ...(input.registryImage === undefined ? [] : [input.registryImage])];
  const archives = images.flatMap(({ source }) => (source.kind === 'archive' ? [[source.archive.path, source.archive] as const] : []));
  return [...new Map(archives).values()];
}

export function archiveBytes(input: BuildInput): number {
  return archivesOf(input).reduce((total, archive) => total + archive.sizeBytes, 0);
}

/** Finds the digest of an image's manifest; that of an archive is known once the archive has been imported. */
export function digestFinder(record: BuildRecord): (source: ImageSource) => Digest {
  return (source) => {
    const digest = source.kind === 'layout' ? source.digest : (record.imported?.tops[source.archive.path] ?? '');
    if (isDigest(digest)) return digest;
    const other = source.kind === 'archive' ? record.imported?.others?.[source.archive.path] : undefined;
    if (other !== undefined) throw new PrestageError('ERR_NOT_IMAGE', other, 'Take it off the list, or build with --skip-artifacts');
    throw new PrestageError(
      'ERR_INTERNAL',
      'an archive was not unpacked before it was needed',
      'Remove the folder .build of the bundle, build again, and report this as a bug',
    );
  };
}
