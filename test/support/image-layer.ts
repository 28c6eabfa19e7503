import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip, createZstdCompress } from 'node:zlib';
import { type Header, type Pack, pack } from 'tar-stream';
import { type Digest, digestOf, hexOf } from '../../agent/model/digest.ts';

/** One member of a layer. Paths are relative, without a leading slash. */
export type LayerEntry =
  | { readonly kind: 'directory'; readonly path: string; readonly mode?: number }
  | {
      readonly kind: 'file';
      readonly path: string;
      readonly content: string;
      readonly mode?: number;
      readonly owner?: number;
      readonly xattrs?: Readonly<Record<string, string>>;
    }
  /** A file of this machine. */
  | {
      readonly kind: 'copy';
      readonly path: string;
      readonly from: string;
      readonly mode?: number;
      readonly xattrs?: Readonly<Record<string, string>>;
    }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  /** The target is the path of an earlier member. */
  | { readonly kind: 'hardlink'; readonly path: string; readonly target: string };

export type Compression = 'gzip' | 'zstd';

/** A blob of a store, named by its digest. */
export interface MadeBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

export interface MadeLayer extends MadeBlob {
  /** Digest of the tar before compression. */
  readonly diffId: Digest;
  readonly unpackedBytes: number;
  readonly compression: Compression;
}

/** `cap_net_bind_service=ep` as the kernel stores it: struct vfs_cap_data, revision 2 with the effective bit; capability.h. */
export const CAP_NET_BIND_SERVICE = '\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0';

/** Takes a path of a lower layer away. Source: OCI image-spec, layer.md, "Whiteouts". */
export function whiteout(path: string): LayerEntry {
  const slash = path.lastIndexOf('/') + 1;
  return { kind: 'file', path: `${path.slice(0, slash)}.wh.${path.slice(slash)}`, content: '' };
}

/** Hides all that lower layers have in a directory. Source: OCI image-spec, layer.md, "Opaque Whiteout". */
export function opaque(directory: string): LayerEntry {
  return { kind: 'file', path: `${directory}/.wh..wh..opq`, content: '' };
}

/** Where a store keeps a blob, as in the OCI image layout. */
export function blobPath(store: string, digest: Digest): string {
  return join(store, 'blobs/sha256', hexOf(digest));
}

/** Puts bytes into a store. */
export async function writeBlob(store: string, bytes: string): Promise<MadeBlob> {
  const digest = digestOf(bytes);
  await mkdir(join(store, 'blobs/sha256'), { recursive: true });
  await writeFile(blobPath(store, digest), bytes);
  return { digest, sizeBytes: Buffer.byteLength(bytes) };
}

/** Packs, compresses and stores a layer. The same entries over the same files give the same bytes. */
export async function makeLayer(store: string, entries: readonly LayerEntry[], compression: Compression = 'gzip'): Promise<MadeLayer> {
  await mkdir(join(store, 'blobs/sha256'), { recursive: true });
  const temporary = join(store, `.layer-${randomBytes(6).toString('hex')}`);
  const inner = createHash('sha256');
  const outer = createHash('sha256');
  const count = { unpacked: 0, packed: 0 };
  const compressor =
    compression === 'gzip' ? createGzip({ level: 6, chunkSize: 256 * 1024 }) : createZstdCompress({ chunkSize: 256 * 1024 });
  await pipeline(
    packEntries(entries),
    async function* (tar: AsyncIterable<Buffer>) {
      for await (const chunk of tar) {
        inner.update(chunk);
        count.unpacked += chunk.length;
        yield chunk;
      }
    },
    compressor,
    async function* (compressed: AsyncIterable<Buffer>) {
      for await (const chunk of compressed) {
        outer.update(chunk);
        count.packed += chunk.length;
        yield chunk;
      }
    },
    createWriteStream(temporary),
  );
  const digest: Digest = `sha256:${outer.digest('hex')}`;
  await rename(temporary, blobPath(store, digest));
  return { digest, sizeBytes: count.packed, diffId: `sha256:${inner.digest('hex')}`, unpackedBytes: count.unpacked, compression };
}

async function* packEntries(entries: readonly LayerEntry[]): AsyncGenerator<Buffer> {
  const tar = pack();
  const filled = fill(tar, entries).catch((error: unknown) => {
    tar.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  for await (const chunk of tar) {
    if (Buffer.isBuffer(chunk)) yield chunk;
  }
  await filled;
}

async function fill(tar: Pack, entries: readonly LayerEntry[]): Promise<void> {
  for (const entry of entries) await addEntry(tar, entry);
  tar.finalize();
}

async function addEntry(tar: Pack, entry: LayerEntry): Promise<void> {
  const header = { name: entry.path, mtime: new Date(0) };
  switch (entry.kind) {
    case 'directory':
      return write(tar, { ...header, type: 'directory', mode: entry.mode ?? 0o755 });
    case 'symlink':
      return write(tar, { ...header, type: 'symlink', linkname: entry.target, mode: 0o777 });
    case 'hardlink':
      return write(tar, { ...header, type: 'link', linkname: entry.target });
    case 'file': {
      const size = Buffer.byteLength(entry.content);
      const owner = { uid: entry.owner ?? 0, gid: entry.owner ?? 0 };
      return write(
        tar,
        { ...header, ...owner, ...paxOf(entry), type: 'file', mode: entry.mode ?? 0o644, size },
        Readable.from([Buffer.from(entry.content)]),
      );
    }
    case 'copy': {
      const source = await stat(entry.from);
      const mode = entry.mode ?? source.mode & 0o777;
      return write(
        tar,
        { ...header, ...paxOf(entry), type: 'file', mode, size: source.size },
        createReadStream(entry.from, { highWaterMark: 1024 * 1024 }),
      );
    }
  }
}

/** Extended attributes as GNU tar and containers/storage write and read them. */
function paxOf(entry: { readonly xattrs?: Readonly<Record<string, string>> }): { pax?: Record<string, string> } {
  if (!entry.xattrs) return {};
  return { pax: Object.fromEntries(Object.entries(entry.xattrs).map(([name, value]) => [`SCHILY.xattr.${name}`, value])) };
}

function write(tar: Pack, header: Partial<Header> & Pick<Header, 'name'>, content?: Readable): Promise<void> {
  return new Promise((resolve, reject) => {
    const sink = tar.entry(header, (error) => (error ? reject(error) : resolve()));
    if (!content) return;
    content.on('error', reject);
    content.on('data', (chunk: Buffer) => {
      if (sink.write(chunk)) return;
      content.pause();
      sink.once('drain', () => content.resume());
    });
    content.on('end', () => sink.end(undefined));
  });
}
