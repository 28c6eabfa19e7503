import { randomBytes } from 'node:crypto';
import { crc32, gzipSync } from 'node:zlib';
import { type Digest, digestOf, hexOf } from '../../agent/model/digest.ts';

/**
 * One tar entry, as bytes say it. What is left out is as GNU tar writes a regular file.
 * Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
 */
export interface TarEntry {
  readonly name: string | Buffer;
  /** Type flag; `0` is a regular file. */
  readonly type?: string;
  readonly content?: Uint8Array;
  /** Size field, where it is not the content's length: a number, or its 12 bytes. */
  readonly size?: number | Buffer;
  readonly linkName?: string;
  /** Six bytes of magic and two of version. */
  readonly magic?: string;
  readonly checksum?: number;
}

const BLOCK = 512;
export const GNU_MAGIC = 'ustar  \0';
export const POSIX_MAGIC = 'ustar\x0000';

/** Header block, content and padding. Long names get GNU's `././@LongLink` entry in front. */
export function tarEntry(entry: TarEntry): Buffer {
  const content = Buffer.from(entry.content ?? []);
  const padding = Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK);
  const name = Buffer.from(entry.name);
  const long =
    name.length > 100 ? tarEntry({ name: '././@LongLink', type: 'L', content: Buffer.concat([name, Buffer.alloc(1)]) }) : Buffer.alloc(0);
  return Buffer.concat([long, header(entry, name.subarray(0, 100), content.length), content, padding]);
}

/** A pax extended header (`x`) or global one (`g`) with its records as they are, lengths included. */
export function paxEntry(records: Readonly<Record<string, string>>, type: 'x' | 'g' = 'x'): Buffer {
  const content = Buffer.concat(Object.entries(records).map(([key, value]) => paxRecord(key, value)));
  return tarEntry({ name: 'PaxHeaders/x', type, content, magic: POSIX_MAGIC });
}

/** All entries and the two zero blocks that end a tar stream. */
export function tarStream(entries: readonly (TarEntry | Buffer)[]): Buffer {
  return Buffer.concat([...entries.map((entry) => (Buffer.isBuffer(entry) ? entry : tarEntry(entry))), Buffer.alloc(2 * BLOCK)]);
}

/** The stream as `tar czf` gives it: a gzip member without a file name in its header. */
export function tgz(entries: readonly (TarEntry | Buffer)[]): Buffer {
  return gzipSync(tarStream(entries));
}

/** A gzip member around a DEFLATE stream that was made elsewhere. Source: RFC 1952, section 2.3. */
export function gzipMember(deflated: Uint8Array, content: { readonly crc: number; readonly lengthBytes: number }): Buffer {
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(content.crc, 0);
  trailer.writeUInt32LE(content.lengthBytes % 2 ** 32, 4);
  return Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]), deflated, trailer]);
}

/** CRC-32 of zero bytes, without holding them all. */
export function crcOfZeros(lengthBytes: number): number {
  const piece = Buffer.alloc(2 ** 20);
  let crc = 0;
  for (let rest = lengthBytes; rest > 0; rest -= piece.length) crc = crc32(rest < piece.length ? piece.subarray(0, rest) : piece, crc);
  return crc;
}

/** The members of one image in `dir:` layout, by file name. */
export type Layout = ReadonlyMap<string, Buffer>;

export interface MadeLayout {
  readonly files: Layout;
  readonly topDigest: Digest;
  readonly imageDigest: Digest;
  readonly config: Digest;
  readonly layers: readonly Digest[];
}

export const VERSION_LINE = 'Directory Transport Version: 1.1\n';

/** An image of layers that are no real ones: the readers of archives do not look into them. */
export function makeLayout(layers: readonly Uint8Array[] = [randomBytes(3000), randomBytes(70_000)], architecture = 'amd64'): MadeLayout {
  const config = Buffer.from(JSON.stringify({ architecture, os: 'linux', rootfs: { type: 'layers', diff_ids: layers.map(digestOf) } }));
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: describe(config, 'application/vnd.oci.image.config.v1+json'),
      layers: layers.map((layer) => describe(layer, 'application/vnd.oci.image.layer.v1.tar+gzip')),
    }),
  );
  const digest = digestOf(manifest);
  const files = new Map<string, Buffer>([
    ['version', Buffer.from(VERSION_LINE)],
    ['manifest.json', manifest],
    [hexOf(digestOf(config)), config],
    ...layers.map((layer): [string, Buffer] => [hexOf(digestOf(layer)), Buffer.from(layer)]),
  ]);
  return { files, topDigest: digest, imageDigest: digest, config: digestOf(config), layers: layers.map(digestOf) };
}

/** A list of images for several architectures, as `skopeo copy --all` writes it. `imageDigest` is that of the first one. */
export function makeListLayout(instances: readonly { readonly architecture: string; readonly layout: MadeLayout }[]): MadeLayout {
  const manifestOf = ({ files }: MadeLayout): Buffer => files.get('manifest.json') ?? Buffer.alloc(0);
  const index = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: instances.map(({ architecture, layout }) => ({
        ...describe(manifestOf(layout), 'application/vnd.oci.image.manifest.v1+json'),
        platform: { os: 'linux', architecture },
      })),
    }),
  );
  const files = new Map<string, Buffer>(instances.flatMap(({ layout }) => [...layout.files]));
  for (const { layout } of instances) files.set(`${hexOf(layout.topDigest)}.manifest.json`, manifestOf(layout));
  files.set('manifest.json', index);
  const [first] = instances;
  if (first === undefined) throw new Error('a list without images');
  return { ...first.layout, files, topDigest: digestOf(index) };
}

/** The entries of a layout as `tar cf NAME.tar NAME` writes them, in the order of the map. */
export function layoutEntries(name: string, files: Layout): readonly TarEntry[] {
  return [{ name: `${name}/`, type: '5' }, ...[...files].map(([file, content]) => ({ name: `${name}/${file}`, content }))];
}

/** The size field as a base-256 number, for sizes that octal digits cannot say. Source: GNU tar manual, "Extensions to ustar". */
export function base256(value: bigint): Buffer {
  const bytes = Buffer.alloc(12);
  let rest = BigInt.asUintN(96, value);
  for (let index = 11; index >= 0; index--) {
    bytes[index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  if (value >= 0n) bytes[0] = 0x80;
  return bytes;
}

function describe(bytes: Uint8Array, mediaType: string): { mediaType: string; digest: Digest; size: number } {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

function header(entry: TarEntry, name: Buffer, contentBytes: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const size = entry.size ?? contentBytes;
  name.copy(block, 0);
  block.write('0000644\x000000000\x000000000\0', 100);
  if (typeof size === 'number') block.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  else size.copy(block, 124);
  block.write('00000000000\0        ', 136);
  block.write(entry.type ?? '0', 156);
  block.write(entry.linkName ?? '', 157);
  block.write(entry.magic ?? GNU_MAGIC, 257, 'latin1');
  const sum = entry.checksum ?? block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

/** `LENGTH KEY=VALUE\n`, where the length counts itself. */
function paxRecord(key: string, value: string): Buffer {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let length = rest + String(rest).length;
  if (rest + String(length).length !== length) length = rest + String(length).length;
  return Buffer.from(`${length} ${key}=${value}\n`);
}
