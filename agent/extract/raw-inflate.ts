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
 * piece (`exact`), or before the end of what was pushed (`early`).
 */
export interface Inflated {
  readonly output: readonly Buffer[];
  readonly end: 'open' | 'exact' | 'early';
}

/**
 * Inflates one raw DEFLATE stream, piece by piece. Pieces are small, because all output of one is held in memory.
 * Throws (or rejects with) a plain Error where the stream is invalid; nothing of that piece is given then.
 * The piece's memory is free again when the call has returned (or its promise has settled).
 */
export type RawInflate = (piece: Buffer, isLast: boolean) => Inflated | Promise<Inflated>;

/** Which inflater a thread has: the addon, or node:zlib with the reason why. */
export type InflaterKind = { readonly kind: 'addon' } | { readonly kind: 'node'; readonly reason: string };

export interface Inflater {
  readonly uses: InflaterKind;
  /** Starts one stream. */
  readonly start: () => RawInflate;
}

/** Step in which the addon's output buffer grows, and size of node:zlib's pieces of output. */
const OUTPUT_STEP_BYTES = 64 * 1024;
const RAW_WINDOW_BITS = -15;
/** Values of zlib.h, which the addon gives back as `err`. */
const Z_SYNC_FLUSH = 2;
const Z_OK = 0;
const Z_STREAM_END = 1;
const Z_BUF_ERROR = -5;

type InflateConstructor = typeof Inflate;

/** zlib-sync where it can be loaded, node:zlib otherwise. */
export function loadInflater(addon: ZlibAddon = zlibAddon()): Inflater {
  try {
    const Constructor = loadAddon(addon);
    return { uses: { kind: 'addon' }, start: () => addonInflate(Constructor) };
  } catch (error) {
    const message = messageOf(error);
    return nodeInflater(message.replace(/\n.*/s, ''));
  }
}

/** node:zlib, for the reason given. */
export function nodeInflater(reason: string): Inflater {
  return { uses: { kind: 'node', reason }, start: nodeInflate };
}

/**
 * Node 24's ObjectWrap (node_object_wrap.h) ends the whole process with a failed assertion when the garbage collector, which enters no
 * context, frees an addon's object. So these live as long as their thread: about 0.1 MB each.
 */
const neverCollected: unknown[] = [];

/**
 * The addon keeps 42 KiB of every stream for good: it has no destructor for zlib's state. That is 15 MiB for 180 archives read twice.
 * It tells neither how much input it has taken nor what follows the end of the stream. So the last byte of the last piece goes in
 * alone: a stream that has ended before it is followed by something.
 */
function addonInflate(Constructor: InflateConstructor): RawInflate {
  const stream = new Constructor({ chunkSize: OUTPUT_STEP_BYTES, windowBits: RAW_WINDOW_BITS });
  neverCollected.push(stream);
  const push = (piece: Buffer): Buffer => {
    stream.push(piece, Z_SYNC_FLUSH);
    if (stream.err === Z_BUF_ERROR) return Buffer.alloc(0); // no input, and nothing left to give
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

/** Ends are seen by `end` before all that was pushed is taken, and by the stream's own end with the last piece. */
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
        while (stream.read() !== null); // hands the listener what still waits
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
 * Loads a shared library from memory: Linux opens one only from a file, so it goes into a private directory for as long as that takes.
 * /run is the place on a node; directories mounted noexec are passed over.
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
