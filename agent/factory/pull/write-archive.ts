import { randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { type Pack, pack } from 'tar-stream';
import { hexOf } from '../../model/digest.ts';
import type { BlobStore } from '../shared/blob-store.ts';
import type { ResolvedImage } from './resolve.ts';

export interface ArchiveJob {
  readonly image: ResolvedImage;
  /** The archive's final path; its name without `.tgz` is that of the top directory. */
  readonly path: string;
  /** Directory on the same file system. */
  readonly scratch: string;
  readonly store: BlobStore;
  readonly signal: AbortSignal;
}

/**
 * Layers are compressed already. A layer of 93 MB on one core: stored (level 0) 0.19 s and 100.0 %, level 1 2.8 s and 99.5 %, level 6 3.2 s and
 * 99.5 %; and the node reads a stored stream as fast as its disk. If a layer is not compressed, the archive is, at the fastest level.
 */
const [STORED, FASTEST] = [0, 1];
const COMPRESSED = /gzip|zstd/;

const PIECE_BYTES = 1024 * 1024;
/** The same images give the same bytes. */
const COMMON = { mtime: new Date(0), uid: 0, gid: 0, uname: '', gname: '' } as const;

/**
 * Writes the archive of an image: a tar of skopeo's `dir:` layout in one top directory, manifests first, so that a reader knows its content
 * early. It gets its name only when it is complete and durable.
 * Source: docs/field-facts.md, "Archive"; containers/image, directory/directory_transport.go.
 */
export async function writeArchive(job: ArchiveJob): Promise<void> {
  const { image, path, scratch, signal } = job;
  const temporary = join(scratch, `archive-${randomBytes(8).toString('hex')}`);
  const tar = pack();
  const isCompressed = image.manifests.every(
    ({ manifest }) => manifest.kind === 'index' || manifest.layers.every(({ mediaType }) => COMPRESSED.test(mediaType)),
  );
  const gzip = createGzip({ level: isCompressed ? STORED : FASTEST, chunkSize: PIECE_BYTES });
  try {
    const written = pipeline(tar, gzip, createWriteStream(temporary, { flags: 'wx', flush: true, highWaterMark: PIECE_BYTES }), { signal });
    await Promise.all([written, addMembers(tar, job)]);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function addMembers(tar: Pack, { image, path, store, signal }: ArchiveJob): Promise<void> {
  try {
    const top = basename(path, '.tgz');
    tar.entry({ ...COMMON, name: `${top}/`, type: 'directory', mode: 0o755 });
    tar.entry({ ...COMMON, name: `${top}/version`, mode: 0o644 }, 'Directory Transport Version: 1.1\n');
    for (const { digest, bytes } of image.manifests) {
      const file = digest === image.top.digest ? 'manifest.json' : `${hexOf(digest)}.manifest.json`;
      tar.entry({ ...COMMON, name: `${top}/${file}`, mode: 0o644 }, bytes);
    }
    for (const { digest, sizeBytes } of image.blobs) {
      const entry = tar.entry({ ...COMMON, name: `${top}/${hexOf(digest)}`, size: sizeBytes, mode: 0o644 });
      await pipeline(createReadStream(store.path(digest), { highWaterMark: PIECE_BYTES }), entry, { signal });
    }
    tar.finalize();
  } catch (error) {
    tar.destroy(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
}
