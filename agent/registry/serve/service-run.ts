import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomic } from '../../host/atomic.ts';
import { type ExecResult, output } from '../../host/exec.ts';
import { type Host, hostPath } from '../../host/host.ts';
import { hasSystemd } from '../../host/systemd.ts';
import { FILES, type RegistryPlan } from './service-plan.ts';
import { QUADLET_PATH, renderQuadlet, renderRegistryUnit, UNIT_NAME, UNIT_PATH } from './service-unit.ts';

/** What keeps a registry running: a unit that podman's generator made, a unit of ours, or podman alone. */
export type RegistryHow = 'quadlet' | 'unit' | 'podman';

/** A start that was tried, and its result. */
export interface StartAttempt {
  readonly how: RegistryHow;
  readonly result: ExecResult;
  /** When it began; the journal has earlier ones, too. */
  readonly since: Date;
}

/** If it exists, podman turns quadlets into units. Source: podman-systemd.unit(5). */
const GENERATOR = '/usr/lib/systemd/system-generators/podman-system-generator';
/** systemd itself gives up after the 60 s of the unit. */
const SYSTEMCTL_LIMIT_MS = 90_000;
const PODMAN_LIMIT_MS = 60_000;
/** How much of the log is read, in lines: enough for the messages and the stacks of a program that crashed, whose fault is in the first line. */
const LOG_LINES = 200;

/** Starts the registry, by systemd if it runs; if podman's generator does not accept the quadlet, by a unit of ours. */
export async function runRegistry(host: Host, plan: RegistryPlan, directory: string): Promise<StartAttempt> {
  const since = host.clock.now();
  if (!hasSystemd(host)) return { since, how: 'podman', result: await runByPodman(host, plan, directory) };
  if (existsSync(GENERATOR)) {
    await writeAtomic(QUADLET_PATH, renderQuadlet(plan));
    if (await isUsableAfterReload(host)) return { since, how: 'quadlet', result: await systemctl(host, 'start', UNIT_NAME) };
    await rm(QUADLET_PATH, { force: true });
  }
  await writeAtomic(UNIT_PATH, renderRegistryUnit(plan));
  await reloadSystemd(host);
  return { since, how: 'unit', result: await systemctl(host, 'start', UNIT_NAME) };
}

/**
 * The journal without the events of podman and systemd about container and unit: `2026-01-01 00:00:00 … m=+0.05 container start …`. Pure.
 */
export function withoutEvents(journal: string): string {
  const event = /^\d{4}-\d\d-\d\d [^\n]* m=\+|: Killing process |^(?:Starting|Started|Stopped|Stopping) |^conmon [0-9a-f]+ <n?warn>/;
  return journal
    .split('\n')
    .filter((line) => !event.test(line))
    .join('\n');
}

/** The latest messages of the registry, for people. */
export async function registryLog(host: Host, attempt: StartAttempt, directory: string): Promise<string> {
  const said = `${attempt.result.stdout}\n${attempt.result.stderr}`;
  if (attempt.how === 'podman') {
    const log = await host.exec('tail', ['-n', String(LOG_LINES), join(directory, FILES.log)], { timeoutMs: 5000 });
    return `${attempt.result.stderr}\n${log.exitCode === 0 ? log.stdout : ''}`;
  }
  const args = [`--unit=${UNIT_NAME}`, `--since=@${attempt.since.getTime() / 1000}`, `--lines=${LOG_LINES}`, '--output=cat', '--no-pager'];
  const journal = await host.exec('journalctl', args, { timeoutMs: 5000 });
  return `${said}\n${withoutEvents(journal.stdout)}`;
}

export async function reloadSystemd(host: Host): Promise<void> {
  await output(host.exec, 'systemctl', ['daemon-reload'], { timeoutMs: SYSTEMCTL_LIMIT_MS });
}

export async function systemctl(host: Host, ...args: readonly string[]): Promise<ExecResult> {
  return await host.exec('systemctl', args, { timeoutMs: SYSTEMCTL_LIMIT_MS });
}

/** The existing files of the system that may belong to a registry. */
export function unitFiles(host: Host): readonly string[] {
  return [UNIT_PATH, QUADLET_PATH].map((path) => hostPath(host, path)).filter((path) => existsSync(path));
}

/**
 * Whether the generator made a unit that starts without a network. The generator of podman 5.0 does not read /run; one that does not know
 * `[Quadlet] DefaultDependencies` orders the unit after network-online.target, and the boot would wait for a network that never comes up.
 */
async function isUsableAfterReload(host: Host): Promise<boolean> {
  await reloadSystemd(host);
  const shown = await systemctl(host, 'show', '--property=LoadState,After', UNIT_NAME);
  return /^LoadState=loaded$/m.test(shown.stdout) && !shown.stdout.includes('network-online.target');
}

/** Without systemd, podman itself restarts a registry that ended; its log, which is in memory, is limited. */
async function runByPodman(host: Host, plan: RegistryPlan, directory: string): Promise<ExecResult> {
  const log = ['--log-driver=k8s-file', `--log-opt=path=${join(directory, FILES.log)}`, '--log-opt=max-size=4mb'];
  const run = ['run', '--detach', '--replace', '--restart=on-failure', ...log, ...plan.options, plan.image, ...plan.command.slice(1)];
  return await host.exec('podman', [...plan.global, ...run], { env: plan.env, timeoutMs: PODMAN_LIMIT_MS });
}
