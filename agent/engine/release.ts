import { lstat, rm } from 'node:fs/promises';
import { output } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import type { ReleaseStep } from '../host/release-step.ts';
import { hasSystemd } from '../host/systemd.ts';
import { PrestageError } from '../model/errors.ts';
import { STORAGE_CONF, STORE_PATH } from '../model/places.ts';
import { withoutRewrite } from '../registry/registries-marks.ts';
import { reloadCrio } from '../registry/registries-reload.ts';
import { REGISTRIES_CONF } from '../registry/registries-view.ts';
import { crioPid } from './crio-process.ts';
import { ETC_STORAGE_CONF, storageConfInForce } from './engine-facts.ts';
import { type SystemFileStep, systemFileReleaseSteps } from './owned-release.ts';
import { RELOAD_LIMIT_MS, RELOADED, UNIT_FOLDER } from './set-up.ts';
import { removeStore } from './storage-conf.ts';
import { LEFT_MARK, writeSystemFile } from './system-file.ts';

/**
 * What there is to undo of all that the agent changed in the system's files, whoever asked for it, and the engines told of it: systemd is reloaded
 * once the drop-ins of units are gone, a running CRI-O reads its registries again. The storage.conf that units and shells were pointed to stays
 * until the next boot, without the store.
 */
export async function engineReleaseSteps(host: Host): Promise<readonly ReleaseStep[]> {
  const found = await systemFileReleaseSteps(host, { [ETC_STORAGE_CONF]: takeStoreOut, [REGISTRIES_CONF]: withoutRewrite });
  const steps = found.filter((step) => !isRemovalOfStorageConf(step));
  const lastUnit = steps.findLastIndex(({ path }) => path?.startsWith(UNIT_FOLDER));
  return [
    ...steps.slice(0, lastUnit + 1),
    ...(await reloadSteps(host, lastUnit >= 0)),
    ...steps.slice(lastUnit + 1),
    ...(found.some(isRemovalOfStorageConf) ? [leavingStep(host)] : []),
    ...crioSteps(host, steps),
  ];
}

function isRemovalOfStorageConf({ name, path }: SystemFileStep): boolean {
  return name === 'remove-system-file' && path === STORAGE_CONF;
}

/**
 * Services and login shells that run already keep the variable that points to this file, and podman fails where it points nowhere. So they find
 * there what is in force for everybody else. Source: containers-storage.conf(5), CONTAINERS_STORAGE_CONF.
 */
function leavingStep(host: Host): SystemFileStep {
  const run = async (): Promise<void> => {
    const content = `${LEFT_MARK}\n# For services and login shells that were started before it.\n${storageConfInForce(host)}`;
    await writeSystemFile(host, STORAGE_CONF, { content, mode: 0o644 });
  };
  return {
    name: 'leave-storage-conf',
    path: STORAGE_CONF,
    text: `leave ${STORAGE_CONF} without the store until the next boot, for services and login shells that were started before`,
    run,
  };
}

/** Nothing is taken out of a file that is not understood any more. */
function takeStoreOut(text: string): string | undefined {
  try {
    return removeStore(text, STORE_PATH);
  } catch (error) {
    if (error instanceof PrestageError) return undefined;
    throw error;
  }
}

async function reloadSteps(host: Host, hasUnits: boolean): Promise<readonly ReleaseStep[]> {
  const mark = hostPath(host, RELOADED);
  // Also where a release was killed between the removal and the reload.
  const isMarked = await isThere(mark);
  if (!hasUnits && !isMarked) return [];
  const run = async (): Promise<void> => {
    if (hasSystemd(host)) await output(host.exec, 'systemctl', ['daemon-reload'], { timeoutMs: RELOAD_LIMIT_MS });
    await rm(mark, { force: true });
  };
  return [{ name: 'reload-systemd', text: hasSystemd(host) ? 'reload systemd' : 'forget that systemd was reloaded', run }];
}

function crioSteps(host: Host, steps: readonly SystemFileStep[]): readonly ReleaseStep[] {
  const paths = steps.flatMap(({ path }) => (path === undefined ? [] : [path]));
  if (!paths.some((path) => path.startsWith('/etc/')) || crioPid(host) === undefined) return [];
  const isStoreInUse = paths.some((path) => path.startsWith('/etc/crio/') || path === ETC_STORAGE_CONF);
  const run = async (): Promise<void> => void (await reloadCrio(host));
  const until = isStoreInUse ? '; it looks into the additional store until it is restarted' : '';
  return [{ name: 'reload-crio', text: `let CRI-O read its configuration again (SIGHUP)${until}`, run }];
}

async function isThere(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    () => false,
  );
}
