import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { quote } from '../../host/exec.ts';
import { type Host, hostPath } from '../../host/host.ts';
import { canonical, readMounts } from '../../host/mount-table.ts';
import type { ReleaseStep } from '../../host/release-step.ts';
import { removeTree } from '../../host/remove-tree.ts';
import type { Step } from '../../host/steps.ts';
import { hasSystemd } from '../../host/systemd.ts';
import { PrestageError } from '../../model/errors.ts';
import { REGISTRY_RUN } from '../../model/places.ts';
import { FILES, REGISTRY_NAME } from './service-plan.ts';
import { readRegistryRecord } from './service-record.ts';
import { reloadSystemd, systemctl, unitFiles } from './service-run.ts';
import { UNIT_NAME } from './service-unit.ts';

const PODMAN_LIMIT_MS = 60_000;
/** What podman leaves at work behind a container that it has removed ends within some 10 ms. */
const CLEANUP_LIMIT_MS = 5000;
const CLEANUP_PAUSE_MS = 10;

/** Ends the registry and removes all that it was started from; nothing to do where there is none. */
export async function stopRegistry(host: Host, step: Step): Promise<void> {
  for (const { name, run } of await registryReleaseSteps(host)) await step(name, run);
}

/** What there is to undo of a registry, also of one that was only half set up. Looks and changes nothing. */
export async function registryReleaseSteps(host: Host): Promise<readonly ReleaseStep[]> {
  const directory = hostPath(host, REGISTRY_RUN);
  const units = unitFiles(host);
  if (units.length === 0 && !existsSync(directory)) return [];
  const steps: ReleaseStep[] = [];
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
    steps.push({ name: 'reload-systemd', text: 'let systemd read its units again', run: async () => await reloadSystemd(host) });
  }
  if (existsSync(directory)) {
    steps.push({ name: 'remove-registry', text: `remove ${directory}`, run: async () => await removeDirectory(host, directory) });
  }
  return steps;
}

async function stopUnit(host: Host): Promise<void> {
  await systemctl(host, 'stop', UNIT_NAME);
  // A start that failed is remembered otherwise, and counts.
  await systemctl(host, 'reset-failed', UNIT_NAME);
}

/** From the storage of its own where it has one; else from the node's, where nothing else goes by that name. */
async function removeContainer(host: Host, directory: string): Promise<void> {
  const record = await readRegistryRecord(host);
  const storage = join(directory, FILES.storage);
  const own = ['--root', storage, '--runroot', join(directory, 'run'), '--tmpdir', join(directory, 'tmp'), '--storage-driver', 'overlay'];
  const global = record?.global ?? own;
  if (global.includes(storage) && !existsSync(storage)) return;
  // Without its file podman would not start at all; then the usual one names the same storage.
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
 * Waits for those who work on a storage: when a container has ended, conmon(8) starts `podman container cleanup`, which mounts and writes there,
 * and `podman rm` does not wait for it. It would make anew what is being removed.
 */
async function untilUnused(host: Host, storage: string): Promise<void> {
  const beganMs = host.clock.monotonicMs();
  while ((await isAtWork(storage)) && host.clock.monotonicMs() - beganMs < CLEANUP_LIMIT_MS) await host.clock.sleep(CLEANUP_PAUSE_MS);
}

/** Both name the storage in their arguments. Source: proc_pid_cmdline(5). */
async function isAtWork(storage: string): Promise<boolean> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const commands = await Promise.all(pids.map(async (pid) => await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return commands.some((command) => command.split('\0').some((argument) => argument === storage || argument.startsWith(`${storage}/`)));
}

/** The storage of its own is mounted upon itself by podman; nothing is ever removed through a mount. */
async function removeDirectory(host: Host, directory: string): Promise<void> {
  await untilUnused(host, join(directory, FILES.storage));
  const real = await canonical(directory);
  const mounts = (await readMounts()).map(({ target }) => target).filter((target) => target.startsWith(`${real}/`));
  for (const target of mounts.toReversed()) await host.exec('umount', [target]);
  await removeTree(directory);
}
