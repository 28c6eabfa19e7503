import { mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInflateRaw } from 'node:zlib';
import type { Inflate } from 'zlib-sync';
import { type ZlibAddon, zlibAddon } from '../assets.ts';
import { messageOf } from '../model/errors.ts';

/**
 * Output of one piece of a raw DEFLATE stream (RFC 1951), and where the stream ends: not yet (`open`), with the last byte of the last
 * piece (`exact`), or before the end of the pushed input (`early`).
 */
export interface Inflated {
  readonly output: readonly Buffer[];
  readonly end: 'open' | 'exact' | 'early';
}

/**
 * Inflates one raw DEFLATE stream, piece by piece. Pieces are small, because all output of a piece is held in memory.
 * Throws (or rejects with) a plain Error if the stream is invalid; that piece then gives no output.
 * The caller may reuse the memory of the piece once the call has returned (or its promise has settled).
 */
export type RawInflate = (piece: Buffer, isLast: boolean) => Inflated | Promise<Inflated>;

/** The inflater of a thread: the addon, or node:zlib with the reason. */
export type InflaterKind = { readonly kind: 'addon' } | { readonly kind: 'node'; readonly reason: string };

export interface Inflater {
  readonly uses: InflaterKind;
  /** Starts one stream. */
  readonly start: () => RawInflate;
}

/** Step by which the output buffer of the addon grows, and size of the output pieces of node:zlib. */
const OUTPUT_STEP_BYTES = 64 * 1024;
const RAW_WINDOW_BITS = -15;
/** Constants of zlib.h; the addon returns the last four in `err`. */
const Z_SYNC_FLUSH = 2;
const Z_OK = 0;
const Z_STREAM_END = 1;
const Z_BUF_ERROR = -5;

type InflateConstructor = typeof Inflate;

/** Uses zlib-sync if it can be loaded, else node:zlib. */
export function loadInflater(addon: ZlibAddon = zlibAddon()): Inflater {
  try {
    const Constructor = loadAddon(addon);
    return { uses: { kind: 'addon' }, start: () => addonInflate(Constructor) };
  } catch (error) {
    const message = messageOf(error);
    return nodeInflater(message.replace(/\n.*/s, ''));
  }
}

/** Uses node:zlib, and records the given reason. */
export function nodeInflater(reason: string): Inflater {
  return { uses: { kind: 'node', reason }, start: nodeInflate };
}

/**
 * In Node 24, ObjectWrap (node_object_wrap.h) aborts the whole process with a failed assertion when the garbage collector, which enters no context,
 * frees an object of an addon. So these objects live as long as their thread: about 0.1 MB each.
 */
const neverCollected: unknown[] = [];

/**
 * The addon never frees 42 KiB of each stream, because it has no destructor for zlib's state. That is 15 MiB for 180 archives read twice.
 * It reports neither how much input it has consumed nor what follows the end of the stream. So the last byte of the last piece is pushed
 * separately: if the stream has ended before that byte, something follows the stream.
 */
function addonInflate(Constructor: InflateConstructor): RawInflate {
  const stream = new Constructor({ chunkSize: OUTPUT_STEP_BYTES, windowBits: RAW_WINDOW_BITS });
  neverCollected.push(stream);
  const push = (piece: Buffer): Buffer => {
    stream.push(piece, Z_SYNC_FLUSH);
    if (stream.err === Z_BUF_ERROR) return Buffer.alloc(0); // no input, and no output left
    const { result } = stream;
    if (stream.err < Z_OK || !Buffer.isBuffer(result)) throw new Error(stream.msg ?? 'no output');
    return result;
  };
  return (piece, isLast) => {
    if (!isLast) return { output: [push(piece)], end: stream.err === Z_STREAM_END ? 'early' : 'open' };
    const output = [push(piece.subarray(0, -1))];
    if (stream.err === Z_STREAM_END) return { output, end: 'early' };
    output.push(push(piece.subarray(-1)));
    return { output, end: stream.err === Z_STREAM_END ? 'exact' : 'open' };
  };
}

/** The event `end` shows where the stream ends: early, if not all pushed input was consumed by then, or exactly with the last piece. */
function nodeInflate(): RawInflate {
  const stream = createInflateRaw({ chunkSize: OUTPUT_STEP_BYTES });
  let pushedBytes = 0;
  let output: Buffer[] = [];
  stream.on('data', (bytes: Buffer) => output.push(bytes));
  return (piece, isLast) =>
    new Promise((resolve, reject) => {
      output = [];
      pushedBytes += piece.length;
      const settle = (end: Inflated['end']): void => {
        stream.removeAllListeners('error').removeAllListeners('end');
        while (stream.read() !== null); // passes the remaining output to the listener
        resolve({ output, end });
      };
      stream.once('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'Z_BUF_ERROR') settle('open');
        else reject(error);
      });
      stream.once('end', () => settle(stream.bytesWritten === pushedBytes ? 'exact' : 'early'));
      if (isLast) stream.end(piece);
      else stream.write(piece, (error) => error ?? settle('open'));
    });
}

function loadAddon(addon: ZlibAddon): InflateConstructor {
  const loaded = addon.kind === 'module' ? createRequire(import.meta.url)('zlib-sync') : openLibrary(addon.bytes);
  return constructorOf(loaded);
}

/**
 * Loads a shared library from memory. Linux can load it only from a file, so it is written to a private directory for that moment.
 * On a node that is in /run; if a directory is mounted noexec, the next one is tried.
 */
function openLibrary(bytes: Uint8Array): unknown {
  const faults: string[] = [];
  for (const parent of ['/run', tmpdir()]) {
    try {
      return openLibraryBelow(parent, bytes);
    } catch (error) {
      faults.push(`${parent}: ${messageOf(error)}`);
    }
  }
  throw new Error(faults.join('; '));
}

function openLibraryBelow(parent: string, bytes: Uint8Array): unknown {
  const directory = mkdtempSync(join(parent, 'prestage-agent-addon-'));
  const file = join(directory, 'zlib_sync.node');
  try {
    writeFileSync(file, bytes, { mode: 0o700, flag: 'wx' });
    const module: { exports: unknown } = { exports: {} };
    process.dlopen(module, file);
    return module.exports;
  } finally {
    rmSync(file, { force: true });
    rmdirSync(directory);
  }
}

function constructorOf(loaded: unknown): InflateConstructor {
  if (isAddon(loaded)) return loaded.Inflate;
  throw new Error('the addon has no constructor Inflate');
}

function isAddon(loaded: unknown): loaded is { readonly Inflate: InflateConstructor } {
  return typeof loaded === 'object' && loaded !== null && 'Inflate' in loaded && typeof loaded.Inflate === 'function';
}
