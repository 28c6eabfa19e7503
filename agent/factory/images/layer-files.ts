import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { extract } from 'tar-stream';
import { formatBytes } from '../../model/bytes.ts';
import type { Digest } from '../../model/digest.ts';
import { messageOf, PrestageError } from '../../model/errors.ts';
import { reasonOf } from '../../model/system-error.ts';

export interface LayerRequest {
  /** Which files are wanted, by their paths relative to the root of the image. */
  readonly wants: (path: string) => boolean;
  /** Larger wanted files are refused. */
  readonly fileLimitBytes: number;
  /** The expected digest of the layer; not checked if left out. */
  readonly digest?: Digest;
}

/** The changes that a layer makes to the files of the layers below it. */
export interface LayerChange {
  /** Texts of wanted files by path. */
  readonly files: ReadonlyMap<string, string>;
  /** Paths that it removes. A path that ends in a slash, or is empty, removes everything below it. */
  readonly removed: readonly string[];
}

/** The largest layer known, that of an operator catalog, unpacks to 2 GiB. */
const UNPACKED_LIMIT_BYTES = 8 * 1024 ** 3;

/**
 * Reads the wanted files of one layer, a tar archive that is plain, gzip or zstd. Source: OCI image-spec, layer.md (whiteouts, opaque directories).
 * @throws PrestageError ERR_SOURCE; ERR_LAYOUT_BLOB if its digest differs
 */
export async function readLayer(path: string, { wants, fileLimitBytes, digest }: LayerRequest): Promise<LayerChange> {
  const files = new Map<string, string>();
  const removed: string[] = [];
  const tar = extract();
  tar.on('entry', (header, stream, next) => {
    const name = header.name.replace(/^\.?\/+/, '');
    const whiteout = /^(.*\/)?\.wh\.([^/]+)$/.exec(name);
    if (whiteout !== null)
      removed.push(
        whiteout[2] === '.wh..opq' || name.endsWith('.wh..wh..opq') ? (whiteout[1] ?? '') : `${whiteout[1] ?? ''}${whiteout[2]}`,
      );
    // If the archive fails, its current entry fails with it; the pipeline reports the error.
    stream.on('error', () => undefined);
    if (header.type !== 'file' || !wants(name)) {
      stream.on('end', next).resume();
      return;
    }
    if ((header.size ?? 0) > fileLimitBytes) {
      next(
        new PrestageError(
          'ERR_SOURCE',
          `${path}: ${name} has ${header.size} bytes, more than the limit of ${fileLimitBytes}`,
          'Name another image',
        ),
      );
      return;
    }
    const chunks: Buffer[] = [];
    stream
      .on('data', (chunk) => {
        if (Buffer.isBuffer(chunk)) chunks.push(chunk);
      })
      .on('end', () => {
        files.set(name, Buffer.concat(chunks).toString('utf8'));
        next();
      });
  });
  const magic = await firstBytes(path);
  const inflate =
    magic.readUInt16BE(0) === 0x1f8b ? [createGunzip()] : magic.readUInt32LE(0) === 0xfd2fb528 ? [createZstdDecompress()] : [];
  const hash = createHash('sha256');
  const hashed = tap((chunk) => void hash.update(chunk));
  let unpackedBytes = 0;
  const counted = tap((chunk) => {
    unpackedBytes += chunk.length;
    if (unpackedBytes <= UNPACKED_LIMIT_BYTES) return;
    throw new PrestageError(
      'ERR_SOURCE',
      `the layer ${path} unpacks to more than ${formatBytes(UNPACKED_LIMIT_BYTES)}`,
      'Name another image',
    );
  });
  await pipeline([createReadStream(path), hashed, ...inflate, counted, tar]).catch((cause: unknown) => {
    throw cause instanceof PrestageError
      ? cause
      : new PrestageError('ERR_SOURCE', `the layer ${path} cannot be read: ${reasonOf(cause)}`, 'Pull the image again', { cause });
  });
  const actual = `sha256:${hash.digest('hex')}`;
  if (digest !== undefined && actual !== digest)
    throw new PrestageError('ERR_LAYOUT_BLOB', `${path} has the digest ${actual}`, 'Pull the images again: complete blobs are kept');
  return { files, removed };
}

/** Whether a layer removes a file of the layers below it. Pure. */
export function removes({ removed }: Pick<LayerChange, 'removed'>, path: string): boolean {
  return removed.some((gone) => path === gone || path.startsWith(gone.endsWith('/') || gone === '' ? gone : `${gone}/`));
}

/** Passes a stream through and looks at each chunk. */
function tap(look: (chunk: Buffer) => void): Transform {
  return new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      try {
        look(chunk);
        done(null, chunk);
      } catch (error) {
        done(error instanceof Error ? error : new Error(messageOf(error)));
      }
    },
  });
}

async function firstBytes(path: string): Promise<Buffer> {
  await using file = await open(path).catch(unreadable(path));
  const bytes = Buffer.alloc(4);
  await file.read(bytes, 0, 4, 0);
  return bytes;
}

/** @throws PrestageError ERR_SOURCE, always */
export function unreadable(path: string): (cause: NodeJS.ErrnoException) => never {
  return (cause) => {
    throw new PrestageError('ERR_SOURCE', `${path} cannot be read: ${reasonOf(cause)}`, 'Name an image, an OCI layout or a dir: layout', {
      cause,
    });
  };
}
