import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Act } from '../../host/acts.ts';
import { quote } from '../../host/exec.ts';
import { type Host, hostPath } from '../../host/host.ts';
import { canonical, readMounts } from '../../host/mount-table.ts';
import { removeTree } from '../../host/remove-tree.ts';
import { hasSystemd } from '../../host/systemd.ts';
import type { UndoStep } from '../../host/undo-step.ts';
import { PrestageError } from '../../model/errors.ts';
import { REGISTRY_RUN } from '../../model/places.ts';
import { FILES, REGISTRY_NAME } from './service-plan.ts';
import { readRegistryRecord } from './service-record.ts';
import { reloadSystemd, systemctl, unitFiles } from './service-run.ts';
import { UNIT_NAME } from './service-unit.ts';

const PODMAN_LIMIT_MS = 60_000;
/** Programs that podman leaves running for a container that it has removed end within some 10 ms. */
const CLEANUP_LIMIT_MS = 5000;
const CLEANUP_PAUSE_MS = 10;

/** Stops the registry and removes all files that it was started from; nothing to do if there is none. */
export async function stopRegistry(host: Host, act: Act): Promise<void> {
  for (const { name, run } of await registryUndoSteps(host)) await act(name, run);
}

/** The steps that undo a registry, even if it was set up only in part. Changes nothing itself. */
export async function registryUndoSteps(host: Host): Promise<readonly UndoStep[]> {
  const directory = hostPath(host, REGISTRY_RUN);
  const units = unitFiles(host);
  if (units.length === 0 && !existsSync(directory)) return [];
  const steps: UndoStep[] = [];
  if (units.length > 0 && hasSystemd(host)) {
    steps.push({ name: 'stop-registry', text: `stop ${UNIT_NAME}`, run: async () => await stopUnit(host) });
  }
  steps.push({
    name: 'stop-registry',
    text: `remove the container ${REGISTRY_NAME}`,
    run: async () => await removeContainer(host, directory),
  });
  for (const path of units) {
    steps.push({ name: 'remove-registry', text: `remove ${path}`, run: async () => await rm(path, { force: true }) });
  }
  if (units.length > 0 && hasSystemd(host)) {
    steps.push({ name: 'reload-systemd', text: 'make systemd reload its units', run: async () => await reloadSystemd(host) });
  }
  if (existsSync(directory)) {
    steps.push({ name: 'remove-registry', text: `remove ${directory}`, run: async () => await removeDirectory(host, directory) });
  }
  return steps;
}

async function stopUnit(host: Host): Promise<void> {
  await systemctl(host, 'stop', UNIT_NAME);
  // Otherwise systemd remembers a failed start and counts it.
  await systemctl(host, 'reset-failed', UNIT_NAME);
}

/** Removes it from its own storage if it has one; otherwise from the node's, where nothing else has that name. */
async function removeContainer(host: Host, directory: string): Promise<void> {
  const record = await readRegistryRecord(host);
  const storage = join(directory, FILES.storage);
  const own = ['--root', storage, '--runroot', join(directory, 'run'), '--tmpdir', join(directory, 'tmp'), '--storage-driver', 'overlay'];
  const global = record?.global ?? own;
  if (global.includes(storage) && !existsSync(storage)) return;
  // With a missing storage.conf podman would not start; then the usual one names the same storage.
  const { CONTAINERS_STORAGE_CONF: conf } = record?.env ?? {};
  const env = conf !== undefined && existsSync(conf) ? { CONTAINERS_STORAGE_CONF: conf } : {};
  const removed = await host.exec('podman', [...global, 'rm', '--force', '--ignore', REGISTRY_NAME], { env, timeoutMs: PODMAN_LIMIT_MS });
  if (removed.exitCode === 0) return;
  throw new PrestageError(
    'ERR_REGISTRY_START',
    `the container ${REGISTRY_NAME} cannot be removed: ${quote(removed.stderr)}`,
    `Remove it by hand: podman ${[...global, 'rm', '--force', REGISTRY_NAME].join(' ')}`,
  );
}

/**
 * Waits for programs that use a storage: when a container has ended, conmon(8) starts `podman container cleanup`, which mounts and writes there, and
 * `podman rm` does not wait for it. It would create files again while they are being removed.
 */
async function untilUnused(host: Host, storage: string): Promise<void> {
  const beganMs = host.clock.monotonicMs();
  while ((await isAtWork(storage)) && host.clock.monotonicMs() - beganMs < CLEANUP_LIMIT_MS) await host.clock.sleep(CLEANUP_PAUSE_MS);
}

/** conmon and the cleanup both name the storage in their arguments. Source: proc_pid_cmdline(5). */
async function isAtWork(storage: string): Promise<boolean> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const commands = await Promise.all(pids.map(async (pid) => await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return commands.some((command) => command.split('\0').some((argument) => argument === storage || argument.startsWith(`${storage}/`)));
}

/** Unmounts before it removes: podman mounts the registry's own storage on itself, and nothing may be removed through a mount. */
async function removeDirectory(host: Host, directory: string): Promise<void> {
  await untilUnused(host, join(directory, FILES.storage));
  const real = await canonical(directory);
  const mounts = (await readMounts()).map(({ target }) => target).filter((target) => target.startsWith(`${real}/`));
  for (const target of mounts.toReversed()) await host.exec('umount', [target]);
  await removeTree(directory);
}
