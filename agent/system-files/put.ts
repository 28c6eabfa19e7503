import { isDeepStrictEqual } from 'node:util';
import type { Act } from '../host/acts.ts';
import { readBootId, sinceBootMs } from '../host/boot.ts';
import { type Host, hostPath } from '../host/host.ts';
import { digestOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { listFaults } from '../model/faults.ts';
import { reasonOf } from '../model/system-error.ts';
import { type FoundFile, isMarked, missingDirectories, OWNED_MARK, readSystemFile, relabel, writeSystemFile } from './file.ts';
import {
  type Backup,
  backupFile,
  EMPTY_SETUP,
  readBackup,
  readBackups,
  readSetup,
  type Setup,
  type WrittenFile,
  writeBackup,
  writeSetup,
} from './record.ts';

/** A file of the system, as the agent wants it to be. */
export interface SystemFile {
  /** Absolute, on the node. */
  readonly path: string;
  /** If the file is added, OWNED_MARK is its first line. */
  readonly content: string;
  /** Permission bits; if left out, those that the file has, or 0644. */
  readonly mode?: number;
  /** `add`: the file belongs to the agent. `edit`: it belongs to somebody else, and is backed up before it is changed for the first time. */
  readonly how: 'add' | 'edit';
}

/**
 * Gives files of the system the wanted contents. A record of how to undo this is durable before any file is touched. Only this function writes to /etc
 * and to the configuration of systemd. Files that are already right are not written. One call at a time: two parallel calls would each write a record
 * without the files of the other.
 * @returns the paths that were written
 * @throws PrestageError ERR_SYSTEM_FILE, with every file that cannot be changed; then nothing was changed
 */
export async function putSystemFiles(host: Host, files: readonly SystemFile[], act: Act): Promise<readonly string[]> {
  const judged = await Promise.all(files.map(async (file) => await judge(host, file)));
  const faults = judged.flatMap((one) => (one.kind === 'refuse' ? [one] : []));
  if (faults.length > 0) throw refusalError(faults);
  const pending = judged.filter((one) => one.kind === 'write');
  if (pending.length === 0) return [];

  for (const { backup } of pending) {
    if (backup !== undefined) await act('back-up-system-file', async () => await writeBackup(host, backup));
  }
  const recorded = await readSetup(host);
  const before = recorded ?? { ...EMPTY_SETUP, edited: (await readBackups(host)).map(({ path }) => path) };
  const directories = await Promise.all(pending.map(async ({ file }) => await missingDirectories(host, file.path)));
  const now = { bootId: await readBootId(), sinceBootMs: await sinceBootMs() };
  const setup = withFiles(before, { files: pending.map(({ file }) => file), directories: directories.flat(), now });
  // Files in /run are written in every boot, but recorded only once.
  const isRecorded = recorded !== undefined && isDeepStrictEqual(setup, withFiles(recorded, { files: [], directories: [], now }));
  if (!isRecorded) await act('record-setup', async () => await writeSetup(host, setup));
  for (const one of pending) await act('write-system-file', async () => await write(host, one));
  const paths = pending.map(({ file }) => file.path);
  await relabel(host, paths);
  return paths;
}

interface Write {
  readonly kind: 'write';
  readonly file: SystemFile;
  readonly found: FoundFile | undefined;
  readonly backup?: Backup;
}
interface Refusal {
  readonly kind: 'refuse';
  readonly reason: string;
  readonly remedy: string;
}
type Judgement = Write | Refusal | { readonly kind: 'keep' };

async function judge(host: Host, file: SystemFile): Promise<Judgement> {
  if (file.how === 'add' && !isMarked(file.content)) {
    throw new PrestageError(
      'ERR_INTERNAL',
      `${file.path} would be added without the mark "${OWNED_MARK}"`,
      'Run prestage-agent report and attach the archive to a bug report',
    );
  }
  try {
    const found = await readSystemFile(host, file.path);
    return file.how === 'add' ? judgeAdded(file, found) : await judgeEdited(host, file, found);
  } catch (error) {
    if (!(error instanceof PrestageError) || error.code !== 'ERR_SYSTEM_FILE') throw error;
    return { kind: 'refuse', reason: error.message, remedy: error.remedy };
  }
}

function judgeAdded(file: SystemFile, found: FoundFile | undefined): Judgement {
  if (found === undefined) return { kind: 'write', file, found };
  if (!isMarked(found.content)) {
    const reason = `${file.path} already exists and was not written by the agent`;
    return { kind: 'refuse', reason, remedy: `Move ${file.path} away, or keep it if it does what the agent’s file would do` };
  }
  const isSame = found.digest === digestOf(file.content) && (file.mode === undefined || file.mode === found.mode);
  return isSame ? { kind: 'keep' } : { kind: 'write', file, found };
}

async function judgeEdited(host: Host, file: SystemFile, found: FoundFile | undefined): Promise<Judgement> {
  const wanted = digestOf(file.content);
  if (found?.digest === wanted) return { kind: 'keep' };
  const backup = await readBackup(host, file.path);
  if (backup === 'damaged') {
    const path = backupFile(host, file.path);
    const remedy = `Bring the file into the state that a release should restore, then remove ${path}`;
    return { kind: 'refuse', reason: `the backup of ${file.path} cannot be read: ${path}`, remedy };
  }
  return { kind: 'write', file, found, backup: backup === undefined ? firstBackup(file, found) : nextBackup(backup, found, file) };
}

function firstBackup(file: SystemFile, found: FoundFile | undefined): Backup {
  const original =
    found === undefined
      ? null
      : {
          content: found.content.toString('base64'),
          mode: found.mode,
          uid: found.uid,
          gid: found.gid,
          modifiedAt: found.modifiedAt,
        };
  return { path: file.path, original, written: [digestOf(file.content)], isMixed: false };
}

/** Keeps the first original, and adds what the agent writes now, so that a release recognizes it. */
function nextBackup(backup: Backup, found: FoundFile | undefined, file: SystemFile): Backup {
  const standing = backup.written.filter((digest) => digest === found?.digest);
  return {
    ...backup,
    written: [...standing, digestOf(file.content)],
    isMixed: backup.isMixed || (standing.length === 0 && !isOriginal(backup, found)),
  };
}

/** Whether a file has the bytes that it had before the agent changed it, or is as missing as it was. */
export function isOriginal({ original }: Backup, found: FoundFile | undefined): boolean {
  if (original === null || found === undefined) return original === null && found === undefined;
  return found.digest === digestOf(Buffer.from(original.content, 'base64'));
}

interface Added {
  readonly files: readonly SystemFile[];
  readonly directories: readonly string[];
  readonly now: NonNullable<WrittenFile['at']>;
}

/** Pure. */
function withFiles(before: Setup, { files, directories, now }: Added): Setup {
  const pathsOf = (how: SystemFile['how']): readonly string[] => files.filter((file) => file.how === how).map(({ path }) => path);
  // The agent's own directories are removed when they are empty, whoever made them.
  const foreign = directories.filter((directory) => !isOwnPlace(directory));
  return {
    directories: [...new Set([...before.directories, ...foreign])],
    added: [...new Set([...before.added, ...pathsOf('add')])],
    edited: [...new Set([...before.edited, ...pathsOf('edit')])],
    written: [
      ...before.written.filter(({ path }) => !files.some((file) => file.path === path)),
      ...files.map((file) => writtenFile(file, now)),
    ].toSorted((a, b) => (a.path < b.path ? -1 : 1)),
  };
}

function writtenFile({ path, content, how }: SystemFile, now: Added['now']): WrittenFile {
  return { path, ...(how === 'add' && { digest: digestOf(content) }), ...(!path.startsWith('/run/') && { at: now }) };
}

function isOwnPlace(directory: string): boolean {
  return ['/run/prestage-agent', '/var/lib/prestage-agent'].some(
    (own) => `${directory}/`.startsWith(`${own}/`) || own.startsWith(`${directory}/`),
  );
}

async function write(host: Host, { file, found }: Write): Promise<void> {
  const mode = file.mode ?? found?.mode ?? 0o644;
  const owner = found === undefined ? {} : { uid: found.uid, gid: found.gid };
  await writeSystemFile(host, file.path, { content: file.content, mode, ...owner }).catch((cause: unknown) => {
    throw new PrestageError(
      'ERR_SYSTEM_FILE',
      `${hostPath(host, file.path)} cannot be written: ${reasonOf(cause)}`,
      `Check the file system (findmnt --target ${hostPath(host, file.path)}), then start the run again, or undo with: prestage-agent release`,
      { cause },
    );
  });
}

function refusalError(faults: readonly Refusal[]): PrestageError {
  return new PrestageError(
    'ERR_SYSTEM_FILE',
    listFaults(
      'system files cannot be changed',
      faults.map(({ reason }) => reason),
    ),
    [...new Set(faults.map(({ remedy }) => remedy))].join('; '),
  );
}
