import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import pLimit from 'p-limit';
import * as v from 'valibot';
import { layoutBlobPath } from '../../extract/oci-layout.ts';
import { type Digest, isDigest } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import type { Descriptor } from '../../model/manifest.ts';
import { reasonOf } from '../../model/system-error.ts';

/** The first bytes of a layer show how it is compressed. Sources: RFC 1952, 2.3.1; RFC 8878, 3.1.1. */
const GZIP_MAGIC = 0x1f8b;
const ZSTD_MAGIC = 0x28b52ffd;
/** Layers of a release unpack to three to five times their size. */
const USUAL_RATIO = 4;
const READ_BYTES = 1024 * 1024;

/**
 * Sizes by the digest of the compressed layer, as a storage has counted them while it unpacked. Source: github.com/containers/storage, layers.go.
 * @param layersText the storage's layers.json
 */
export function sizesOfStore(layersText: string): ReadonlyMap<Digest, number> {
  const schema = v.array(
    v.looseObject({
      'compressed-diff-digest': v.optional(v.string(), ''),
      'diff-digest': v.optional(v.string(), ''),
      'diff-size': v.optional(v.number()),
    }),
  );
  const layers = v.parse(schema, JSON.parse(layersText));
  return new Map(
    layers.flatMap((layer): [Digest, number][] => {
      const size = layer['diff-size'];
      if (size === undefined) return [];
      return [layer['compressed-diff-digest'], layer['diff-digest']].filter(isDigest).map((digest) => [digest, size]);
    }),
  );
}

/**
 * Counts the bytes of layers when unpacked (of their tar), several at a time.
 * @throws PrestageError ERR_LAYOUT_BLOB if a layer cannot be unpacked
 */
export async function countUnpacked(
  layout: string,
  layers: readonly Descriptor[],
  options: { readonly jobs: number; readonly signal: AbortSignal },
): Promise<ReadonlyMap<Digest, number>> {
  const limit = pLimit(options.jobs);
  const counted = await Promise.all(
    layers.map((layer) =>
      limit(async () => [layer.digest, await unpackedBytes(layoutBlobPath(layout, layer.digest), layer, options.signal)] as const),
    ),
  );
  return new Map(counted);
}

/**
 * Estimates the unpacked size of a layer in bytes, from its first and last bytes: gzip ends with the size modulo 4 GiB (RFC 1952, 2.3.1); of several
 * members, it is that of the last.
 */
export async function estimateUnpacked(layout: string, layer: Descriptor): Promise<number> {
  await using file: FileHandle = await open(layoutBlobPath(layout, layer.digest));
  const bytes = Buffer.alloc(4);
  await file.read(bytes, 0, 4, 0);
  const guess = layer.sizeBytes * USUAL_RATIO;
  if (bytes.readUInt16BE(0) !== GZIP_MAGIC) return bytes.readUInt32BE(0) === ZSTD_MAGIC ? guess : layer.sizeBytes;
  await file.read(bytes, 0, 4, Math.max(0, layer.sizeBytes - 4));
  const stated = bytes.readUInt32LE(0);
  return stated >= layer.sizeBytes ? stated : guess;
}

async function unpackedBytes(path: string, layer: Descriptor, signal: AbortSignal): Promise<number> {
  const inflate = await inflaterOf(path);
  if (inflate === undefined) return layer.sizeBytes;
  let count = 0;
  try {
    await pipeline(
      createReadStream(path, { highWaterMark: READ_BYTES }),
      inflate,
      async (content: AsyncIterable<Buffer>) => {
        for await (const bytes of content) count += bytes.length;
      },
      { signal },
    );
  } catch (cause) {
    signal.throwIfAborted();
    throw new PrestageError('ERR_LAYOUT_BLOB', `${path} cannot be unpacked: ${reasonOf(cause)}`, 'Pull the images again', {
      cause,
    });
  }
  return count;
}

/** The decompressor for a layer, by its first bytes; undefined for a plain tar. */
export async function inflaterOf(path: string) {
  await using file: FileHandle = await open(path);
  const magic = Buffer.alloc(4);
  await file.read(magic, 0, 4, 0);
  if (magic.readUInt16BE(0) === GZIP_MAGIC) return createGunzip({ chunkSize: READ_BYTES });
  return magic.readUInt32BE(0) === ZSTD_MAGIC ? createZstdDecompress({ chunkSize: READ_BYTES }) : undefined;
}
