import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { constants, deflateRawSync } from 'node:zlib';
import { type Inflater, loadInflater, nodeInflater } from '../../agent/extract/raw-inflate.ts';
import { type Survey, type SurveyJob, surveyArchive } from '../../agent/extract/survey-archive.ts';
import { type Unpacked, type UnpackJob, unpackArchive } from '../../agent/extract/unpack-archive.ts';
import { type ErrorRecord, errorRecord } from '../../agent/model/errors.ts';

/** Both ways to inflate; the addon as it is loaded in development, from the module. */
export const inflaters: readonly { readonly title: string; readonly inflater: Inflater }[] = [
  { title: 'zlib-sync', inflater: loadInflater() },
  { title: 'node:zlib', inflater: nodeInflater('a test asked for it') },
];

/** A directory that goes when the test ends. */
export interface WorkDirectory extends AsyncDisposable {
  readonly path: string;
  /** Writes an archive, `NAME.tgz`, and gives its path. */
  archive(bytes: Uint8Array, name?: string): Promise<string>;
  /** Makes an empty directory. */
  empty(): Promise<string>;
}

/** Name that archives of tests have where it does not matter. */
export const NAME = 'image_latest';

export async function workDirectory(): Promise<WorkDirectory> {
  const path = await mkdtemp(join(tmpdir(), 'prestage-archive-'));
  let made = 0;
  return {
    path,
    archive: async (bytes, name = NAME) => {
      const file = join(path, `${name}.tgz`);
      await writeFile(file, bytes);
      return file;
    },
    empty: async () => {
      const directory = join(path, `empty-${made++}`);
      await mkdir(directory);
      return directory;
    },
    [Symbol.asyncDispose]: async () => await rm(path, { recursive: true, force: true }),
  };
}

export async function survey(job: Partial<SurveyJob> & Pick<SurveyJob, 'path'>, inflater: Inflater = loadInflater()): Promise<Survey> {
  return await surveyArchive({ name: NAME, architecture: 'amd64', ...job }, { inflater, onRead: () => undefined });
}

export async function unpack(
  job: Partial<UnpackJob> & Pick<UnpackJob, 'path' | 'to'>,
  inflater: Inflater = loadInflater(),
): Promise<Unpacked> {
  return await unpackArchive({ name: NAME, architecture: 'amd64', writeBlobs: [], ...job }, { inflater, onRead: () => undefined });
}

/** Code, message and remedy that a promise rejects with; fails where it does not. */
export async function rejection(promise: Promise<unknown>): Promise<ErrorRecord> {
  const result = await promise.then(
    () => undefined,
    (error: unknown) => errorRecord(error),
  );
  return result ?? assert.fail('nothing was refused');
}

/** The files of a directory, by name. */
export async function filesOf(directory: string): Promise<Map<string, Buffer>> {
  const names = (await readdir(directory)).sort();
  return new Map(await Promise.all(names.map(async (name): Promise<[string, Buffer]> => [name, await readFile(join(directory, name))])));
}

/** A DEFLATE stream of the given bytes, and then as many MiB of zeros, each in about 1 KiB. */
export function deflatedBomb(head: Uint8Array, zeroMiB: number): Buffer {
  const flushed = { finishFlush: constants.Z_FULL_FLUSH, level: 9 };
  const zeros = deflateRawSync(Buffer.alloc(2 ** 20), flushed);
  const end = deflateRawSync(Buffer.alloc(0));
  return Buffer.concat([deflateRawSync(head, flushed), ...Array.from({ length: zeroMiB }, () => zeros), end]);
}

/** Peak resident set of this process in MiB. Source: proc_pid_status(5), VmHWM. */
export function peakMiB(): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024;
}
