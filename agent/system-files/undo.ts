import { lstat, readdir, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { syncDirectory } from '../host/atomic.ts';
import { output } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import type { UndoStep } from '../host/undo-step.ts';
import { PrestageError } from '../model/errors.ts';
import { BACKUP_PATH, SETUP_RECORD, STORAGE_CONF } from '../model/places.ts';
import { type FoundFile, isLeft, isMarked, readSystemFile, relabel, writeSystemFile } from './file.ts';
import { isOriginal } from './put.ts';
import { type Backup, backupFile, EMPTY_SETUP, readBackup, readBackups, readSetup, type Setup, writeSetup } from './record.ts';

/**
 * For each path, a function that removes the agent's part from the text of a file that somebody else has changed since. It returns undefined if that is
 * not possible, and the same text if nothing of the agent is in it.
 */
export type TakeOut = Readonly<Record<string, (text: string) => string | undefined>>;

/** A step of release that is about one file of the system. */
export interface SystemFileStep extends UndoStep {
  /** On the node; left out of steps about the agent's own records. */
  readonly path?: string;
}

/** Directories in which the agent adds files, for the case that its record is lost. */
const FOLDERS = ['/etc/crio/crio.conf.d', '/etc/containers/registries.conf.d', '/etc/profile.d', '/run/systemd/system'];
const OWN_NAME = /^50-prestage[.-]/;

/** Which files are meant, by their path on the node. */
export type Takes = (path: string) => boolean;

/**
 * The steps that undo changes of system files, in order. An edited file that has the bytes that the agent wrote gets back its old bytes, mode, owner and
 * time; one that somebody has changed since keeps that change. Also right if a run was killed halfway, or if the record is lost.
 * @param takes only these files; then the record continues without them
 */
export async function systemFileUndoSteps(host: Host, takeOut: TakeOut = {}, takes?: Takes): Promise<readonly SystemFileStep[]> {
  const setup = (await readSetup(host)) ?? EMPTY_SETUP;
  const isMeant: Takes = takes ?? (() => true);
  // Later files may need earlier ones, so the last file is removed first.
  const added = [...new Set([...setup.added, ...(await markedFiles(host))])].filter(isMeant).toReversed();
  const edited = [...new Set([...setup.edited, ...(await readBackups(host)).map(({ path }) => path)])].filter(isMeant).toSorted();
  const hasMeant = (directory: string): boolean => added.some((path) => path.startsWith(`${directory}/`));
  const directories = directoriesToTry(takes === undefined ? setup.directories : setup.directories.filter(hasMeant), added);
  return [
    ...(await Promise.all(added.map(async (path) => await addedSteps(host, path)))).flat(),
    ...(await Promise.all(edited.map(async (path) => await editedSteps(host, path, takeOut[path])))).flat(),
    ...(await Promise.all([...added, ...edited].map(async (path) => await leftoverSteps(host, path)))).flat(),
    ...(await Promise.all(directories.map(async (path) => await directorySteps(host, path)))).flat(),
    ...(takes === undefined ? await recordSteps(host) : forgettingSteps(host, setup, takes)),
  ];
}

async function addedSteps(host: Host, path: string): Promise<readonly SystemFileStep[]> {
  const found = await lookAt(host, path);
  if (found === undefined) return [];
  if (found instanceof PrestageError) return [leave(`leave ${path}: ${found.message}`)];
  if (isLeft(found.content)) return [];
  if (!isMarked(found.content)) return [leave(`leave ${path}: somebody else has put another file there`)];
  return [{ name: 'remove-system-file', path, text: `remove ${path}`, run: async () => await removeFile(hostPath(host, path)) }];
}

async function editedSteps(host: Host, path: string, takeOut: TakeOut[string] | undefined): Promise<readonly SystemFileStep[]> {
  const backup = await readBackup(host, path);
  if (backup === undefined) return [];
  if (backup === 'damaged') return [leave(`leave ${path}: its backup ${backupFile(host, path)} is damaged`)];
  const found = await lookAt(host, path);
  if (found instanceof PrestageError) return [leave(`leave ${path}: ${found.message}`)];
  if (isOurs(backup, found)) {
    const run = async (): Promise<void> => await restore(host, backup, found);
    const text = backup.original === null ? `remove ${path}, which did not exist before` : `restore ${path} as it was`;
    return [{ name: 'restore-system-file', path, text, run }];
  }
  const current = found?.content.toString('utf8') ?? '';
  const without = found === undefined ? undefined : takeOut?.(current);
  const where = `the original is in ${backupFile(host, path)}, as base64`;
  if (found === undefined || without === undefined) return [leave(`leave ${path}: somebody changed it since; ${where}`)];
  const run = async (): Promise<void> => {
    await assertAsFound(host, path, found);
    if (without !== current) await writeSystemFile(host, path, { ...found, content: without });
    await removeFile(backupFile(host, path));
  };
  const text =
    without === current
      ? `forget ${path}: somebody has changed it since, and nothing of the agent is in it`
      : `remove the agent’s part from ${path}, which somebody has changed since`;
  return [{ name: 'restore-system-file', path, text, run }];
}

/** Whether nobody but the agent changed the file since its backup was made. */
function isOurs(backup: Backup, found: FoundFile | undefined): boolean {
  if (backup.isMixed) return false;
  return isOriginal(backup, found) || (found !== undefined && backup.written.includes(found.digest));
}

async function restore(host: Host, backup: Backup, found: FoundFile | undefined): Promise<void> {
  const { path, original } = backup;
  await assertAsFound(host, path, found);
  if (original === null) {
    await removeFile(hostPath(host, path));
  } else if (!hasEverythingOf(backup, found)) {
    await writeSystemFile(host, path, { ...original, content: Buffer.from(original.content, 'base64') });
    // touch(1), because Node's utimes() takes a double, which has no room for nanoseconds.
    await output(host.exec, 'touch', ['--no-create', '--no-dereference', `--date=@${original.modifiedAt}`, hostPath(host, path)]);
    await relabel(host, [path]);
  }
  await removeFile(backupFile(host, path));
}

/** A run that was killed after its backup has changed nothing; a release that was killed while restoring may have restored only the bytes. */
function hasEverythingOf(backup: Backup, found: FoundFile | undefined): boolean {
  const { original } = backup;
  return (
    isOriginal(backup, found) &&
    found?.modifiedAt === original?.modifiedAt &&
    found?.mode === original?.mode &&
    found?.uid === original?.uid &&
    found?.gid === original?.gid
  );
}

/** The file, or why there is something else in its place. */
async function lookAt(host: Host, path: string): Promise<FoundFile | PrestageError | undefined> {
  return await readSystemFile(host, path).catch((error: unknown) => {
    if (error instanceof PrestageError && error.code === 'ERR_SYSTEM_FILE') return error;
    throw error;
  });
}

/** Checks the file again: the plan may be old, because a person has read it. */
async function assertAsFound(host: Host, path: string, planned: FoundFile | undefined): Promise<void> {
  const found = await readSystemFile(host, path);
  if (found?.digest === planned?.digest) return;
  throw new PrestageError(
    'ERR_SYSTEM_FILE',
    `${path} has changed since the plan was made`,
    'Check the file, then run: prestage-agent release',
  );
}

/** Temporary files that a killed writer left beside a file. Nobody else uses such names. */
async function leftoverSteps(host: Host, path: string): Promise<readonly SystemFileStep[]> {
  const directory = hostPath(host, dirname(path));
  const names = await entriesOf(directory);
  const start = `.${basename(path)}.`;
  return names
    .filter((name) => name.startsWith(start) && /^[0-9a-f]{12}\.tmp$/.test(name.slice(start.length)))
    .map((name) => {
      const text = `remove ${join(dirname(path), name)}, which a killed run left`;
      return { name: 'remove-system-file', text, run: async () => await removeFile(join(directory, name)) };
    });
}

/** Inner directories first. Without a record, the drop-in directories of units that hold a file of the agent. Pure. */
function directoriesToTry(recorded: readonly string[], added: readonly string[]): readonly string[] {
  const dropIns = added.map((path) => dirname(path)).filter((directory) => /^\/run\/systemd\/system\/[^/]+\.d$/.test(directory));
  return [...new Set([...recorded, ...dropIns])].toSorted((a, b) => b.split('/').length - a.split('/').length || (a < b ? -1 : 1));
}

async function directorySteps(host: Host, path: string): Promise<readonly SystemFileStep[]> {
  const directory = hostPath(host, path);
  const found = await lstat(directory).catch(() => undefined);
  if (found?.isDirectory() !== true) return [];
  return [
    { name: 'remove-system-file', text: `remove the directory ${path} if it is empty`, run: async () => await removeEmpty(directory) },
  ];
}

/** Removes files that are gone from the record, because `status` compares the files with it. */
function forgettingSteps(host: Host, setup: Setup, takes: Takes): readonly SystemFileStep[] {
  const stays = (path: string): boolean => !takes(path);
  const left: Setup = {
    ...setup,
    added: setup.added.filter(stays),
    edited: setup.edited.filter(stays),
    written: setup.written.filter(({ path }) => stays(path)),
  };
  if (isDeepStrictEqual(left, setup)) return [];
  return [{ name: 'record-setup', text: 'forget system files that are gone', run: async () => await writeSetup(host, left) }];
}

async function recordSteps(host: Host): Promise<readonly SystemFileStep[]> {
  const [record, backups] = [hostPath(host, SETUP_RECORD), hostPath(host, BACKUP_PATH)];
  const found = await Promise.all([record, backups].map(async (path) => await lstat(path).catch(() => undefined)));
  if (found.every((one) => one === undefined)) return [];
  const run = async (): Promise<void> => {
    await removeFile(record);
    await removeEmpty(backups);
  };
  return [{ name: 'remove-setup-record', text: 'forget which system files were changed', run }];
}

/** Files of the agent by their place, their name and their mark. */
async function markedFiles(host: Host): Promise<readonly string[]> {
  const inFolders = await Promise.all(
    FOLDERS.map(async (folder) => {
      const names = await entriesOf(hostPath(host, folder));
      const inner = await Promise.all(
        names
          .filter((name) => name.endsWith('.service.d'))
          .map(async (name) => (await entriesOf(hostPath(host, join(folder, name)))).map((file) => join(name, file))),
      );
      return [...names, ...inner.flat()].filter((name) => OWN_NAME.test(basename(name))).map((name) => join(folder, name));
    }),
  );
  const marked = await Promise.all(
    [STORAGE_CONF, ...inFolders.flat()].map(async (path) => {
      const found = await readSystemFile(host, path).catch(() => undefined);
      return found !== undefined && isMarked(found.content) ? [path] : [];
    }),
  );
  return marked.flat();
}

function leave(text: string): SystemFileStep {
  return { name: 'restore-system-file', text, run: async () => {} };
}

async function entriesOf(directory: string): Promise<readonly string[]> {
  return await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
    throw error;
  });
}

async function removeFile(path: string): Promise<void> {
  await rm(path, { force: true });
  await syncDirectory(dirname(path)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}

async function removeEmpty(directory: string): Promise<void> {
  await rmdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(error.code ?? '')) throw error;
  });
}
