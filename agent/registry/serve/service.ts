import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { lstat, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { writeAtomic } from '../../host/atomic.ts';
import { processStartTicks } from '../../host/boot.ts';
import { type Host, hostPath } from '../../host/host.ts';
import { makePrivateDirectory } from '../../host/private-directory.ts';
import { hasSystemd } from '../../host/systemd.ts';
import { messageOf, PrestageError } from '../../model/errors.ts';
import { REGISTRY_RUN } from '../../model/places.ts';
import { reasonOf } from '../../model/system-error.ts';
import { checkServing, isLoopback, listenHost, probeHost } from './service-address.ts';
import { explainFailure } from './service-failure.ts';
import { type Health, probeRegistry, provenHealth } from './service-health.ts';
import { addressTaken, whoListens, whoTook } from './service-listener.ts';
import { FILES, planRegistry, type RegistryPlan, type RegistryRequest } from './service-plan.ts';
import { formatRegistryRecord, type RegistryRecord, readRegistryRecord } from './service-record.ts';
import { type RegistryHow, registryLog, runRegistry, type StartAttempt } from './service-run.ts';
import { stopRegistry } from './service-stop.ts';

export { stopRegistry } from './service-stop.ts';

export interface StartedRegistry {
  /** `host:port` as clients write it. */
  readonly address: string;
  readonly how: RegistryHow;
  /** From the call to the first answer. */
  readonly startMs: number;
  /** Nothing had to be done. */
  readonly wasRunning: boolean;
}

/** A start took 0.2 s when measured; a booting node is slower, and its disk is busy. */
const HEALTH_LIMIT_MS = 15_000;
const HEALTH_PAUSE_MS = 10;
/** Limit for one answer. */
const PROBE_LIMIT_MS = 2000;
/** An address of the node can come up after the agent. */
const ADDRESS_LIMIT_MS = 30_000;
const ADDRESS_PAUSE_MS = 200;

/**
 * Runs a registry that serves a tree read-only, and returns when it answers. A running one that matches the request is kept; another one of ours is
 * replaced.
 * @throws PrestageError ERR_USAGE, ERR_REGISTRY_PORT, ERR_REGISTRY_TAKEN, ERR_REGISTRY_IMAGE, ERR_REGISTRY_START; then nothing of it is left running
 */
export async function startRegistry(host: Host, request: RegistryRequest): Promise<StartedRegistry> {
  const startedMs = host.clock.monotonicMs();
  checkServing(request.address, request.tls !== undefined);
  const directory = hostPath(host, REGISTRY_RUN);
  const files = await readTls(request);
  const plan = planRegistry(request, { ...files, directory, hasCrun: existsSync('/usr/bin/crun'), ...(await identitiesOf(request)) });
  const done = (how: RegistryHow, wasRunning: boolean): StartedRegistry => ({
    address: plan.address,
    how,
    startMs: Math.round(host.clock.monotonicMs() - startedMs),
    wasRunning,
  });
  const earlier = await readRegistryRecord(host);
  if (earlier?.identity === plan.identity && (await registryHealth(host, plan.address)).healthy) return done(earlier.how, true);
  request.signal.throwIfAborted();
  if (earlier !== undefined) await request.onReplace?.();
  await stopRegistry(host, request.act);
  await untilFree(host, request, plan.address);
  const record: RegistryRecord = {
    identity: plan.identity,
    address: plan.address,
    probeHost: probeHost(request.address),
    port: request.port,
    hasTls: request.tls !== undefined,
    how: hasSystemd(host) ? 'unit' : 'podman',
    global: [...plan.global],
    env: plan.env,
  };
  await request.act('write-registry', async () => await writeFiles(directory, { plan, record, ...files }));
  const attempt = await request.act('start-registry', async () => await runRegistry(host, plan, directory));
  if (attempt.how !== record.how) await writeRecord(directory, { ...record, how: attempt.how });
  const health = attempt.result.exitCode === 0 ? await untilHealthy(host, directory, request.signal) : undefined;
  if (health?.healthy === true) return done(attempt.how, false);
  throw await failure(host, request, { plan, attempt, health });
}

/** Whether the registry that was started, and no other program, answers on its address. */
export async function registryHealth(host: Host, address: string): Promise<Health> {
  const record = await readRegistryRecord(host);
  if (record === undefined) return { healthy: false, reason: 'no registry was started in this boot' };
  if (record.address !== address) return { healthy: false, reason: `the registry serves on ${record.address}, not on ${address}` };
  return await proven(host, record, await probeRecorded(hostPath(host, REGISTRY_RUN), record));
}

/** Checked after the answer, because the program that listened before may not be the one that answered. */
async function proven(host: Host, record: RegistryRecord, answer: Health): Promise<Health> {
  return provenHealth(answer, await whoListens(host, { address: record.probeHost, port: record.port }));
}

async function probeRecorded(directory: string, record: RegistryRecord): Promise<Health> {
  const certificate = record.hasTls ? await readFile(join(directory, FILES.certificate), 'utf8').catch(() => '') : undefined;
  return await probeRegistry({ host: record.probeHost, port: record.port, certificate, timeoutMs: PROBE_LIMIT_MS });
}

/** Waits for the first answer; gives up if the process ends before it. */
async function untilHealthy(host: Host, directory: string, signal: AbortSignal): Promise<Health> {
  const record = await readRegistryRecord(host);
  if (record === undefined) return { healthy: false, reason: 'its record is gone' };
  const pid = Number.parseInt(await readFile(join(directory, FILES.pid), 'utf8').catch(() => ''), 10);
  const beganMs = host.clock.monotonicMs();
  for (;;) {
    const health = await probeRecorded(directory, record);
    if (health.healthy) return await proven(host, record, health);
    if (!Number.isNaN(pid) && (await processStartTicks(pid)) === undefined) return { healthy: false, reason: 'it ended' };
    if (signal.aborted || host.clock.monotonicMs() - beganMs > HEALTH_LIMIT_MS) return health;
    await host.clock.sleep(HEALTH_PAUSE_MS);
  }
}

interface Failed {
  readonly plan: RegistryPlan;
  readonly attempt: StartAttempt;
  readonly health: Health | undefined;
}

/** Collects the messages, undoes the start, and makes the error from them. */
async function failure(host: Host, { act, signal }: RegistryRequest, { plan, attempt, health }: Failed): Promise<unknown> {
  const log = await registryLog(host, attempt, hostPath(host, REGISTRY_RUN)).catch(messageOf);
  await stopRegistry(host, act);
  if (signal.aborted) return signal.reason;
  const { image, command, address } = plan;
  if (health?.listener?.kind === 'other') return addressTaken(address, health.listener.who);
  return explainFailure({ image, command, address, messages: `${health === undefined ? '' : `${health.reason}\n`}${log}` });
}

/**
 * Waits until this node has the address, and finds out whether the port is free by listening on it for a moment.
 * @throws PrestageError ERR_REGISTRY_PORT, ERR_REGISTRY_TAKEN
 */
async function untilFree(host: Host, { address, port, signal }: RegistryRequest, shown: string): Promise<void> {
  const beganMs = host.clock.monotonicMs();
  for (;;) {
    const fault = await listenFault(listenHost(address), port);
    if (fault === undefined) return;
    if (fault === 'EADDRINUSE') throw addressTaken(shown, await whoTook(port));
    const isLate = isLoopback(address) || host.clock.monotonicMs() - beganMs > ADDRESS_LIMIT_MS;
    if (fault !== 'EADDRNOTAVAIL' || isLate) {
      throw new PrestageError(
        'ERR_REGISTRY_PORT',
        `the registry cannot listen on ${shown}: ${fault}`,
        'Set serve-address to an address of this node; list them with: ip address',
      );
    }
    await host.clock.sleep(ADDRESS_PAUSE_MS, signal);
  }
}

async function listenFault(address: string | undefined, port: number): Promise<string | undefined> {
  const server = createServer();
  try {
    const listening = once(server, 'listening');
    server.listen({ port, exclusive: true, ...(address !== undefined && { host: address }) });
    await listening;
    return undefined;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : messageOf(error);
  } finally {
    server.close();
  }
}

async function writeFiles(
  directory: string,
  files: { readonly plan: RegistryPlan; readonly record: RegistryRecord; readonly certificate: string; readonly key: string },
): Promise<void> {
  await makePrivateDirectory(directory);
  for (const stale of [FILES.pid, FILES.log]) await rm(join(directory, stale), { force: true });
  await writeAtomic(join(directory, FILES.config), files.plan.config);
  if (files.record.hasTls) {
    await writeAtomic(join(directory, FILES.certificate), files.certificate);
    await writeAtomic(join(directory, FILES.key), files.key, 0o600);
  }
  await writeRecord(directory, files.record);
}

async function writeRecord(directory: string, record: RegistryRecord): Promise<void> {
  await writeAtomic(join(directory, FILES.record), formatRegistryRecord(record));
}

async function readTls({ tls }: RegistryRequest): Promise<{ readonly certificate: string; readonly key: string }> {
  const read = async (path: string): Promise<string> =>
    await readFile(path, 'utf8').catch((cause: unknown) => {
      throw new PrestageError('ERR_USAGE', `${path} cannot be read: ${reasonOf(cause)}`, 'Make it with: prestage-agent certificates', {
        cause,
      });
    });
  return tls === undefined ? { certificate: '', key: '' } : { certificate: await read(tls.certificate), key: await read(tls.key) };
}

/** Identities of the current directories: a store that was replaced is at the same path. */
async function identitiesOf({
  tree,
  blobs,
  imageStore,
}: RegistryRequest): Promise<{ readonly treeIdentity: string; readonly storeIdentity: string }> {
  const inside = join(tree, 'docker/registry/v2');
  if (!existsSync(inside)) {
    const found = await readdir(tree).catch(() => undefined);
    throw new PrestageError(
      'ERR_REGISTRY_START',
      `${tree} is not a registry tree: ${found === undefined ? 'it cannot be read' : `it holds ${found.slice(0, 5).join(', ') || 'nothing'} and no docker/registry/v2`}`,
      'Start the run again; if it fails again, write the bundle again',
    );
  }
  const trees = await Promise.all([tree, ...(blobs === undefined ? [] : [blobs])].map(identityOf));
  return { treeIdentity: trees.join(' '), storeIdentity: imageStore === undefined ? '' : await identityOf(imageStore) };
}

async function identityOf(path: string): Promise<string> {
  const found = await lstat(path).catch(() => undefined);
  return found === undefined ? 'missing' : `${found.dev}:${found.ino}:${found.ctimeMs}`;
}
