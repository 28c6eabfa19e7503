import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import { PrestageError } from './model/errors.ts';

/**
 * The files that the executable carries besides code. This module is for development and reads them from the source tree; build.mjs replaces it
 * by a generated module with the same exports, which contains the bytes.
 */

/** The addon zlib-sync: a module of the tree, or bytes that the caller writes to a private file and loads with process.dlopen. */
export type ZlibAddon = { readonly kind: 'module' } | { readonly kind: 'bytes'; readonly bytes: Uint8Array; readonly sha256: string };

/** The code of a worker thread: `new Worker(url)`, or `new Worker(code, { eval: true })`. */
export type WorkerEntry = { readonly kind: 'file'; readonly url: URL } | { readonly kind: 'source'; readonly code: string };

/** Folders, relative to the top of the tree, with the suffixes of the files that become part of the executable. */
const FOLDERS: readonly { readonly folder: string; readonly suffixes: readonly string[] }[] = [
  { folder: 'agent/units', suffixes: ['.service', '.container', '.sh'] },
  { folder: 'ignition-templates', suffixes: ['.json'] },
  { folder: 'docs', suffixes: ['.json', 'errors.md'] },
];

const top = new URL('../', import.meta.url);

/** Version of the agent, from package.json. */
export const version: string = v.parse(
  v.object({ version: v.string() }),
  JSON.parse(readFileSync(new URL('package.json', top), 'utf8')),
).version;

/** Paths of all text files in the executable, relative to the top of the tree, sorted. */
export function assetPaths(): readonly string[] {
  return FOLDERS.flatMap(({ folder, suffixes }) =>
    readdirSync(new URL(folder, top))
      .filter((name) => suffixes.some((suffix) => name.endsWith(suffix)))
      .map((name) => `${folder}/${name}`),
  ).sort();
}

/**
 * The text of a file in the executable.
 * @param path relative to the top of the tree, one of assetPaths()
 * @throws PrestageError ERR_INTERNAL if there is no such file
 */
export function asset(path: string): string {
  if (!assetPaths().includes(path)) {
    throw new PrestageError(
      'ERR_INTERNAL',
      `the executable does not contain the file ${path}`,
      'Add its folder and suffix to FOLDERS in agent/assets.ts',
    );
  }
  return readFileSync(new URL(path, top), 'utf8');
}

export function zlibAddon(): ZlibAddon {
  return { kind: 'module' };
}

/** The thread that inflates, checks and writes archives. */
export function workerEntry(): WorkerEntry {
  return { kind: 'file', url: new URL('./extract/worker.ts', import.meta.url) };
}

/** The command that starts this program again: the program and its first arguments. */
export function selfCommand(): readonly [string, ...string[]] {
  return [process.execPath, fileURLToPath(new URL('./main.ts', import.meta.url))];
}
