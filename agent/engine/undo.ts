import { rm } from 'node:fs/promises';
import { output } from '../host/exec.ts';
import { isThere } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { hasSystemd } from '../host/systemd.ts';
import type { UndoStep } from '../host/undo-step.ts';
import { PrestageError } from '../model/errors.ts';
import { STORAGE_CONF, STORE_PATH } from '../model/places.ts';
import { REGISTRIES_D_PATH } from '../signatures/own-registries-d.ts';
import { LEFT_MARK, readSystemFile, writeSystemFile } from '../system-files/file.ts';
import { type SystemFileStep, systemFileUndoSteps, type Takes } from '../system-files/undo.ts';
import { crioPid } from './crio-process.ts';
import { ETC_STORAGE_CONF, storageConfInForce } from './engine-facts.ts';
import { DROP_IN_PATH, isOfIgnition } from './registries-drop-in.ts';
import { withoutRewrite } from './registries-marks.ts';
import { CRIO_TOLD, reloadCrio } from './registries-reload.ts';
import { REGISTRIES_CONF, REGISTRIES_DIRECTORY } from './registries-view.ts';
import { RELOAD_LIMIT_MS, RELOADED, UNIT_FOLDER } from './set-up.ts';
import { removeStore } from './storage-conf.ts';

/**
 * The steps that undo all changes of the agent to system files, and tell the engines: systemd is reloaded once the drop-ins of units are removed, and a
 * running CRI-O reads its registries again. The storage.conf that units and shells were pointed to is kept until the next boot, without the store.
 */
export async function engineUndoSteps(host: Host, part?: EnginePart): Promise<readonly UndoStep[]> {
  const found = await fileSteps(host, part === undefined ? undefined : await filesOf(host, part));
  const steps = found.filter((step) => !isRemovalOfStorageConf(step));
  const isMarked = part !== 'store' && (await isThere(hostPath(host, CRIO_TOLD)));
  if (part === 'mirrors') return [...steps, ...crioSteps(host, steps, isMarked)];
  const lastUnit = steps.findLastIndex(({ path }) => path?.startsWith(UNIT_FOLDER));
  return [
    ...steps.slice(0, lastUnit + 1),
    ...(await reloadSteps(host, lastUnit >= 0)),
    ...steps.slice(lastUnit + 1),
    ...(found.some(isRemovalOfStorageConf) ? [leavingStep(host)] : []),
    ...crioSteps(host, steps, isMarked),
  ];
}

function isRemovalOfStorageConf({ name, path }: SystemFileStep): boolean {
  return name === 'remove-system-file' && path === STORAGE_CONF;
}

/**
 * Services and login shells that are already running keep the variable that points to this file, and podman fails if the file is missing. So it is
 * replaced by the settings that are in force for everybody else. Source: containers-storage.conf(5), CONTAINERS_STORAGE_CONF.
 */
function leavingStep(host: Host): SystemFileStep {
  const run = async (): Promise<void> => {
    const content = `${LEFT_MARK}\n# For services and login shells that were started before it.\n${storageConfInForce(host)}`;
    await writeSystemFile(host, STORAGE_CONF, { content, mode: 0o644 });
  };
  return {
    name: 'leave-storage-conf',
    path: STORAGE_CONF,
    text: `keep ${STORAGE_CONF} without the store until the next boot, for services and login shells that are already running`,
    run,
  };
}

/** The steps that undo mirrors, except for some files, which are kept; engines are not told. @param keep paths on the node */
export async function staleMirrorSteps(host: Host, keep: readonly string[]): Promise<readonly UndoStep[]> {
  const takes = await filesOf(host, 'mirrors');
  return await fileSteps(host, (path) => takes(path) && !keep.includes(path));
}

async function fileSteps(host: Host, takes: Takes | undefined): Promise<readonly SystemFileStep[]> {
  return await systemFileUndoSteps(host, { [ETC_STORAGE_CONF]: takeStoreOut, [REGISTRIES_CONF]: withoutRewrite }, takes);
}

/** The files that point engines to the registry of this node, or those that point them to the store. */
export type EnginePart = 'mirrors' | 'store';

/** A drop-in from an ignition points to other nodes, so it is not among the files of this node's registry. */
async function filesOf(host: Host, part: EnginePart): Promise<Takes> {
  const isRendered = isOfIgnition((await readSystemFile(host, DROP_IN_PATH).catch(() => undefined))?.content.toString('utf8') ?? '');
  const isOfMirrors: Takes = (path) =>
    path === REGISTRIES_CONF || path.startsWith(CERTIFICATES) || path.startsWith(`${REGISTRIES_DIRECTORY}/`) || path === REGISTRIES_D_PATH;
  return (path) => (part === 'mirrors' ? isOfMirrors(path) && !(isRendered && path === DROP_IN_PATH) : !isOfMirrors(path));
}

/** Source: containers-certs.d(5). */
const CERTIFICATES = '/etc/containers/certs.d/';

/** Undefined if the file cannot be parsed any more: then nothing is removed from it. */
function takeStoreOut(text: string): string | undefined {
  try {
    return removeStore(text, STORE_PATH);
  } catch (error) {
    if (error instanceof PrestageError) return undefined;
    throw error;
  }
}

async function reloadSteps(host: Host, hasUnits: boolean): Promise<readonly UndoStep[]> {
  const mark = hostPath(host, RELOADED);
  // Also if a release was killed between the removal and the reload.
  const isMarked = await isThere(mark);
  if (!hasUnits && !isMarked) return [];
  const run = async (): Promise<void> => {
    if (hasSystemd(host)) await output(host.exec, 'systemctl', ['daemon-reload'], { timeoutMs: RELOAD_LIMIT_MS });
    await rm(mark, { force: true });
  };
  return [{ name: 'reload-systemd', text: hasSystemd(host) ? 'reload systemd' : 'forget that systemd was reloaded', run }];
}

/** @param isMarked CRI-O was told about files in this boot; a command that was killed may have removed them without telling CRI-O */
function crioSteps(host: Host, steps: readonly SystemFileStep[], isMarked: boolean): readonly UndoStep[] {
  const paths = steps.flatMap(({ path }) => (path === undefined ? [] : [path]));
  const isRunning = crioPid(host) !== undefined;
  if (!isMarked && !(isRunning && paths.some((path) => path.startsWith('/etc/')))) return [];
  const isStoreInUse = paths.some((path) => path.startsWith('/etc/crio/') || path === ETC_STORAGE_CONF);
  const run = async (): Promise<void> => {
    if (isRunning) await reloadCrio(host);
    if (isMarked) await rm(hostPath(host, CRIO_TOLD), { force: true });
  };
  const until = isStoreInUse ? '; it uses the additional store until it is restarted' : '';
  const text = isRunning ? `make CRI-O reload its configuration (SIGHUP)${until}` : 'forget what CRI-O was told';
  return [{ name: 'reload-crio', text, run }];
}
