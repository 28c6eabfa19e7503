import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { writeAtomic } from '../host/atomic.ts';
import { readIfThere } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { digestOf, hexOf } from '../model/digest.ts';
import { BACKUP_PATH, SETUP_RECORD } from '../model/places.ts';
import { digestSchema } from '../model/schemas.ts';
import { sealRecord, unsealRecord } from '../model/seal.ts';

const path = v.pipe(v.string(), v.startsWith('/'));
const version = v.literal('prestage-agent/v1');

const setupSchema = v.object({
  apiVersion: version,
  kind: v.literal('Setup'),
  /** Directories that the agent made for its files, outer ones first. */
  directories: v.array(path),
  /** Files that did not exist before; a mark in them says that they are the agent's. */
  added: v.array(path),
  /** Files of somebody else that the agent changed; each has a backup. */
  edited: v.array(path),
  /** What the agent wrote last, for each file. An older agent did not record this. */
  written: v.optional(
    v.array(
      v.object({
        path,
        /** Digest of the content; only for files that belong to the agent. */
        digest: v.optional(digestSchema),
        /** When it was written; left out for files in /run, which each boot writes again. */
        at: v.optional(v.object({ bootId: v.string(), sinceBootMs: v.number() })),
      }),
    ),
    [],
  ),
});

/** What the agent changed in files of the system. Durable before the first of them is touched. */
export type Setup = Pick<v.InferOutput<typeof setupSchema>, 'directories' | 'added' | 'edited' | 'written'>;
export type WrittenFile = Setup['written'][number];

const backupSchema = v.object({
  apiVersion: version,
  kind: v.literal('Backup'),
  path,
  /** The file before the agent's first change; null if it did not exist. */
  original: v.nullable(
    v.object({
      /** Base64, so that no byte is lost. */
      content: v.string(),
      /** Permission bits. */
      mode: v.number(),
      uid: v.number(),
      gid: v.number(),
      /** Seconds since 1970 with nine decimals, as touch(1) reads them after `@`: a JavaScript number would round. */
      modifiedAt: v.pipe(v.string(), v.regex(/^-?\d+\.\d{9}$/)),
    }),
  ),
  /** Contents that the agent gave or is about to give to the file. */
  written: v.array(digestSchema),
  /** Somebody else changed the file between two changes of the agent: the original is no longer what it would be without the agent. */
  isMixed: v.boolean(),
});

/** A file as it was before the agent changed it. */
export type Backup = Omit<v.InferOutput<typeof backupSchema>, 'apiVersion' | 'kind'>;

export const EMPTY_SETUP: Setup = { directories: [], added: [], edited: [], written: [] };

/** The record, or undefined if there is none or it is damaged. */
export async function readSetup(host: Host): Promise<Setup | undefined> {
  const parsed = v.safeParse(setupSchema, await readSealed(hostPath(host, SETUP_RECORD)));
  return parsed.success ? parsed.output : undefined;
}

/** Everybody may read it: it holds names and digests, and `status` of any user compares the files with it. */
export async function writeSetup(host: Host, setup: Setup): Promise<void> {
  const { directories, added, edited, written } = setup;
  const record = { apiVersion: 'prestage-agent/v1', kind: 'Setup', directories, added, edited, written };
  await writeAtomic(hostPath(host, SETUP_RECORD), sealRecord(record));
}

/** Where the backup of a file lies on this machine. */
export function backupFile(host: Host, file: string): string {
  return join(hostPath(host, BACKUP_PATH), `${hexOf(digestOf(file))}.json`);
}

/** The backup of a file; `damaged` if it cannot be read, undefined if there is none. */
export async function readBackup(host: Host, file: string): Promise<Backup | 'damaged' | undefined> {
  const sealed = await readSealed(backupFile(host, file));
  if (sealed === undefined) return undefined;
  const parsed = v.safeParse(backupSchema, sealed);
  return parsed.success && parsed.output.path === file ? parsed.output : 'damaged';
}

export async function writeBackup(host: Host, backup: Backup): Promise<void> {
  const { path, original, written, isMixed } = backup;
  const record = { apiVersion: 'prestage-agent/v1', kind: 'Backup', path, original, written, isMixed };
  // The backup of a file that only root may read must not be readable for others.
  await writeAtomic(backupFile(host, path), sealRecord(record), 0o600);
}

/** All backups that can be read: they name their files even if the record is lost. */
export async function readBackups(host: Host): Promise<readonly Backup[]> {
  const directory = hostPath(host, BACKUP_PATH);
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const read = names.filter((name) => /^[0-9a-f]{64}\.json$/.test(name)).map((name) => readSealed(join(directory, name)));
  return (await Promise.all(read)).flatMap((sealed) => {
    const parsed = v.safeParse(backupSchema, sealed);
    return parsed.success ? [parsed.output] : [];
  });
}

/** The content of a sealed file: undefined if it does not exist, null if it is damaged. */
async function readSealed(file: string): Promise<unknown> {
  const text = await readIfThere(file);
  return text === undefined ? undefined : (unsealRecord(text) ?? null);
}
