import { readdir, readFile, readlink } from 'node:fs/promises';
import { BlockList, isIPv6 } from 'node:net';
import pLimit from 'p-limit';

/** A TCP socket that waits for connections. */
export interface ListeningSocket {
  /** The numeric address to which it is bound; `0.0.0.0` or `::` for all addresses. */
  readonly address: string;
  readonly port: number;
  /** The user who created it, as numbered in this user namespace. */
  readonly uid: number;
  /** Identifies it among all sockets of the machine. */
  readonly inode: string;
}

const LISTEN = '0A';
const ANY: ReadonlySet<string> = new Set(['0.0.0.0', '0000:0000:0000:0000:0000:0000:0000:0000']);
/** Number of processes that are inspected at the same time. */
const PARALLEL = 16;
/** Most ancestors of a process that are inspected. */
const ANCESTORS = 8;

/** The listening sockets in this network namespace; every user can read them. Source: proc_pid_net(5), tcp and tcp6. */
export async function listeningSockets(): Promise<readonly ListeningSocket[]> {
  const tables = await Promise.all(['tcp', 'tcp6'].map(async (name) => await readFile(`/proc/net/${name}`, 'utf8').catch(() => '')));
  return tables.flatMap(parseListening);
}

/** The listening sockets in a table of /proc/net. Pure. Source: proc_pid_net(5). */
export function parseListening(table: string): readonly ListeningSocket[] {
  return table.split('\n').flatMap((line) => {
    const [, local = '', , state, , , , uid, , inode] = line.trim().split(/\s+/);
    const [address = '', port = ''] = local.split(':');
    if (state !== LISTEN || uid === undefined || inode === undefined) return [];
    return [{ address: addressOf(address), port: Number.parseInt(port, 16), uid: Number(uid), inode }];
  });
}

/**
 * The sockets that receive a connection to the address: the kernel prefers a socket bound to this address to one bound to all addresses. Pure.
 * @param address an IP address
 */
export function answering(sockets: readonly ListeningSocket[], address: string, port: number): readonly ListeningSocket[] {
  const wanted = new BlockList();
  wanted.addAddress(address, familyOf(address));
  const atPort = sockets.filter((socket) => socket.port === port);
  const exact = atPort.filter((socket) => wanted.check(socket.address, familyOf(socket.address)));
  return exact.length > 0 ? exact : atPort.filter((socket) => ANY.has(socket.address));
}

/** Whether a process holds a socket; also false if this user may not inspect the process. Source: proc_pid_fd(5). */
export async function holdsSocket(pid: number, inode: string): Promise<boolean> {
  const directory = `/proc/${pid}/fd`;
  const names = await readdir(directory).catch(() => []);
  const targets = await Promise.all(names.map(async (name) => await readlink(`${directory}/${name}`).catch(() => '')));
  return targets.includes(`socket:[${inode}]`);
}

/** The ids of the processes that hold a socket, as far as this user may inspect them. */
export async function socketHolders(inode: string): Promise<readonly number[]> {
  const limit = pLimit(PARALLEL);
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const held = await Promise.all(pids.map((pid) => limit(async () => ((await holdsSocket(pid, inode)) ? [pid] : []))));
  return held.flat();
}

/** A process and its ancestors, nearest first. */
export async function lineageOf(pid: number): Promise<readonly number[]> {
  const lineage: number[] = [];
  for (let at = pid; at > 0 && lineage.length < ANCESTORS; at = await parentOf(at)) lineage.push(at);
  return lineage;
}

/** The control groups of a process; only root can put a process into a group of systemd. Source: cgroups(7), /proc/pid/cgroup. */
export async function controlGroupsOf(pid: number): Promise<readonly string[]> {
  const text = await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '');
  return text.split('\n').map((line) => line.replace(/^\d+:[^:]*:/, ''));
}

/** A process for people: `python3 (pid 7)`. */
export async function describeProcess(pid: number): Promise<string> {
  const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => 'a program');
  return `${name.trim()} (pid ${pid})`;
}

/** Source: proc_pid_stat(5), field 4. */
async function parentOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? 0);
}

/** Converts the kernel's hexadecimal form: words of 32 bits in the byte order of the processor, which is little-endian on x64 and arm64. */
function addressOf(hex: string): string {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap((word) => (word.match(/../g) ?? []).toReversed()).map((byte) => byte.toLowerCase());
  if (bytes.length === 4) return bytes.map((byte) => Number.parseInt(byte, 16)).join('.');
  return Array.from({ length: bytes.length / 2 }, (_, index) => `${bytes[2 * index]}${bytes[2 * index + 1]}`).join(':');
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIPv6(address) ? 'ipv6' : 'ipv4';
}
