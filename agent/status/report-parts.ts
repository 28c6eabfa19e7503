import { readFile } from 'node:fs/promises';
import { howEnded } from '../host/exec.ts';
import { readIfThere } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { availableMemoryBytes, spaceAt } from '../host/space.ts';
import { locateStorage } from '../storage/location.ts';
import { readSetup } from '../system-files/record.ts';
import { collectStatus } from './collect.ts';
import { cutText, listing, namedFiles, readCut } from './report-files.ts';

/** One file of a report before it is written; `fault` says why it is missing or incomplete. */
export interface RawPart {
  /** Path inside the report. */
  readonly name: string;
  readonly text: string;
  readonly cutBytes: number;
  readonly fault?: string;
}

/** Time limit for each program that a report runs. */
const PROGRAM_LIMIT_MS = 10_000;
/** Number of journal lines in a report. */
const JOURNAL_LINES = 5000;

/** Files of the node that a report contains. Never logins, keys or backups: a backup may be of a file that only root may read. */
const FILES: readonly string[] = [
  '/run/prestage-agent/state.json',
  '/run/prestage-agent/store.json',
  '/run/prestage-agent/lock.holder',
  '/run/prestage-agent/storage.conf',
  '/run/prestage-agent/registry/registry.json',
  '/run/prestage-agent/registry/config.yaml',
  '/var/lib/prestage-agent/state.json',
  '/var/lib/prestage-agent/setup.json',
  '/etc/prestage-agent/config.yaml',
  '/etc/prestage-agent/launcher.env',
  '/usr/lib/os-release',
  '/etc/containers/registries.conf',
  '/etc/containers/registries.conf.d/*.conf',
  '/etc/containers/storage.conf',
  '/usr/share/containers/storage.conf',
  '/etc/containers/containers.conf',
  '/etc/containers/containers.conf.d/*.conf',
  '/etc/containers/policy.json',
  '/etc/crio/crio.conf',
  '/etc/crio/crio.conf.d/*',
  '/etc/systemd/system/prestage-*',
];
/** Files of which the end matters most. */
const LOGS: readonly string[] = ['/run/prestage-agent/registry/registry.log'];

const LSBLK_COLUMNS = 'NAME,SIZE,TYPE,RO,FSTYPE,LABEL,PARTLABEL,MOUNTPOINT';

/** Programs, by the file that receives their output. None of them writes. */
const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  'tools/kernel.txt': ['uname', '-a'],
  'tools/podman.txt': ['podman', '--version'],
  'tools/skopeo.txt': ['skopeo', '--version'],
  'tools/crun.txt': ['crun', '--version'],
  'tools/crio.txt': ['crio', '--version'],
  'tools/systemd.txt': ['systemctl', '--version'],
  'disks/lsblk.json': ['lsblk', '--json', '--output', LSBLK_COLUMNS],
  'disks/losetup.json': ['losetup', '--list', '--json', '--output', 'NAME,RO,AUTOCLEAR,BACK-FILE'],
  'systemd/units.txt': ['systemctl', 'list-units', '--all', '--no-pager', '--no-legend', 'prestage-*'],
  'systemd/show.txt': ['systemctl', 'show', '--no-pager', 'prestage-*'],
  'systemd/journal.txt': [
    ...['journalctl', '--no-pager', '--output=short-iso', `--lines=${JOURNAL_LINES}`],
    ...['prestage-agent', 'prestage-launcher', 'prestage-registry', 'prestage-check'].map((name) => `--identifier=${name}`),
  ],
};

/** Kernel messages about disks, file systems and memory. */
const KERNEL_LINE = /I\/O error|blk_update|EXT4|XFS|SQUASHFS|verity|device-mapper|\bloop\d|\bnvme|\bsd[a-z]+\b|overlay|out of memory|oom/i;
const KERNEL_LINES = 300;

/** Collects all parts of a report from this machine, still with their secrets. Writes nothing; an unreadable part gets a `fault`. */
export async function readParts(host: Host): Promise<readonly RawPart[]> {
  const setup = await readSetup(host).catch(() => undefined);
  const files = await Promise.all([...FILES, ...(setup?.added ?? [])].map(async (pattern) => await namedFiles(host, pattern)));
  const paths = [...new Set(files.flat())];
  return await Promise.all([
    part('status.json', async () => JSON.stringify(await collectStatus(host), undefined, 2)),
    part('places.txt', async () => [await listing(host, '/run/prestage-agent'), await listing(host, '/var/lib/prestage-agent')].join('\n')),
    part('surveys.txt', async () => await surveysText(host)),
    part('disks/mounts.txt', async () => await mountsText()),
    part('disks/space.json', async () => await spaceText(host)),
    part('disks/kernel.txt', async () => kernelLines(await readOutput(host, ['dmesg', '--ctime']))),
    ...Object.entries(PROGRAMS).map(async ([name, command]) => await part(name, async () => await readOutput(host, command))),
    ...paths.map(async (path) => await filePart(host, path, 'start')),
    ...LOGS.map(async (path) => await filePart(host, path, 'end')),
  ]).then((parts) => parts.filter((one) => one !== undefined));
}

async function part(name: string, read: () => Promise<string>): Promise<RawPart> {
  try {
    return { name, ...cutText(await read()) };
  } catch (error) {
    return { name, text: '', cutBytes: 0, fault: faultText(error) };
  }
}

/** A missing file gives no part. */
async function filePart(host: Host, path: string, keep: 'start' | 'end'): Promise<RawPart | undefined> {
  const name = `files${path}`;
  try {
    return { name, ...(await readCut(hostPath(host, path), keep)) };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    return { name, text: '', cutBytes: 0, fault: faultText(error) };
  }
}

async function readOutput(host: Host, [file = '', ...args]: readonly string[]): Promise<string> {
  const result = await host.exec(file, args, { timeoutMs: PROGRAM_LIMIT_MS });
  if (result.exitCode === 0) return result.stdout;
  return [result.stdout, result.stderr, `(${file} ${howEnded(result)})`].filter((text) => text !== '').join('\n');
}

async function mountsText(): Promise<string> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  return lines.filter((line) => /prestage|\/dev\/loop|squashfs/.test(line)).join('\n');
}

async function spaceText(host: Host): Promise<string> {
  const location = await locateStorage(host, {}).catch(() => undefined);
  const places = ['/', '/run', '/var', ...(location === undefined ? [] : [location.graphroot])];
  const spaces = await Promise.all(places.map(async (path) => await spaceAt(path === location?.graphroot ? path : hostPath(host, path))));
  return JSON.stringify({ availableMemoryBytes: await availableMemoryBytes(), fileSystems: spaces }, undefined, 2);
}

/** Only number and size of the surveys: their content can be read from the archives. */
async function surveysText(host: Host): Promise<string> {
  const path = hostPath(host, '/var/lib/prestage-agent/surveys.json');
  const text = (await readIfThere(path)) ?? '';
  return `${(text.match(/"topDigest"/g) ?? []).length} archives surveyed, ${Buffer.byteLength(text)} bytes`;
}

function kernelLines(text: string): string {
  return text
    .split('\n')
    .filter((line) => KERNEL_LINE.test(line))
    .slice(-KERNEL_LINES)
    .join('\n');
}

function faultText(error: unknown): string {
  if (error instanceof Error && 'code' in error && error.code === 'EACCES') return 'this user may not read it';
  return error instanceof Error ? error.message : String(error);
}
