import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { PrestageError } from '../model/errors.ts';

/** Bytes of a file inside an image. */
export interface Extent {
  /** Offset in the image. */
  readonly offset: number;
  readonly length: number;
  /** Offset in the file. Ranges that no extent covers are zeros. */
  readonly at: number;
}

export interface PlacedFile {
  readonly sizeBytes: number;
  readonly extents: readonly Extent[];
}

const ISO_BLOCK = 2048;

/**
 * The places of files in an ISO image, from `xorriso -find / -type f -exec report_lba`: `File data lba: xt , startlba , blocks , filesize , 'path'`,
 * one line for each part of at most 4 GiB. Source: xorriso(1), report_lba.
 */
export function parseLbaReport(text: string): ReadonlyMap<string, PlacedFile> {
  const files = new Map<string, PlacedFile>();
  for (const [, lba, blocks, size, path = ''] of text.matchAll(/^File data lba: +\d+ , +(\d+) , +(\d+) , +(\d+) , '\/(.*)'$/gm)) {
    const known = files.get(path)?.extents ?? [];
    const at = known.reduce((total, extent) => total + extent.length, 0);
    const sizeBytes = Number(size);
    const length = Math.min(Number(blocks) * ISO_BLOCK, sizeBytes - at);
    files.set(path, { sizeBytes, extents: length <= 0 ? known : [...known, { offset: Number(lba) * ISO_BLOCK, length, at }] });
  }
  return files;
}

/**
 * The places of files in an ext4 file system, from debugfs given one `ex -l "/path"` per line; its output repeats each command. Leaf lines are
 * `level/depth entry/entries logical - logical physical - physical length [flags]`, in blocks; uninitialized extents read as zeros.
 * Source: debugfs(8), dump_extents.
 * @param sizes sizes of the files by path, since debugfs reports only blocks
 */
export function parseExtents(
  text: string,
  {
    sizes,
    blockBytes,
    startBytes,
  }: { readonly sizes: ReadonlyMap<string, number>; readonly blockBytes: number; readonly startBytes: number },
): ReadonlyMap<string, PlacedFile> {
  const sections = text.split(/^debugfs: ex -l "\//m).slice(1);
  return new Map(
    sections.flatMap((section): [string, PlacedFile][] => {
      const path = section.slice(0, section.indexOf('"'));
      const sizeBytes = sizes.get(path);
      if (sizeBytes === undefined || !section.includes('Logical')) return [];
      const leaves = [...section.matchAll(/^ *\d+\/ *\d+ +\d+\/ *\d+ +(\d+) - +\d+ +(\d+) - +\d+ +(\d+) *(\S*)/gm)];
      const extents = leaves.flatMap(([, logical, physical, blocks, flags]): Extent[] => {
        const at = Number(logical) * blockBytes;
        const length = Math.min(Number(blocks) * blockBytes, sizeBytes - at);
        return flags?.includes('Uninit') || length <= 0 ? [] : [{ offset: startBytes + Number(physical) * blockBytes, length, at }];
      });
      return [[path, { sizeBytes, extents }]];
    }),
  );
}

const PIECE_BYTES = 1024 * 1024;

/**
 * sha256 of a file inside an image, read from the image itself.
 * @throws the signal's reason; PrestageError ERR_PARTITION_WRITE if the image ends too early
 */
export async function hashPlaced(
  image: string,
  file: PlacedFile,
  options: { readonly signal: AbortSignal; readonly onBytes: (bytes: number) => void },
): Promise<string> {
  const hash = createHash('sha256');
  let at = 0;
  const zerosTo = (end: number): void => {
    for (; at < end; at += Math.min(PIECE_BYTES, end - at)) hash.update(Buffer.alloc(Math.min(PIECE_BYTES, end - at)));
  };
  for (const extent of file.extents) {
    zerosTo(extent.at);
    const end = extent.offset + extent.length - 1;
    for await (const piece of createReadStream(image, { start: extent.offset, end, highWaterMark: PIECE_BYTES, signal: options.signal })) {
      hash.update(piece);
      at += piece.length;
      options.onBytes(piece.length);
    }
    if (at !== extent.at + extent.length)
      throw new PrestageError(
        'ERR_PARTITION_WRITE',
        `${image} ends before its files do`,
        'Check that the disk is not full, then make the image again',
      );
  }
  zerosTo(file.sizeBytes);
  return hash.digest('hex');
}
