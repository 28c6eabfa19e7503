import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Host, hostPath } from '../../host/host.ts';
import {
  answering,
  controlGroupsOf,
  describeProcess,
  holdsSocket,
  type ListeningSocket,
  lineageOf,
  listeningSockets,
  socketHolders,
} from '../../host/listeners.ts';
import { PrestageError } from '../../model/errors.ts';
import { REGISTRY_RUN } from '../../model/places.ts';
import { FILES } from './service-plan.ts';
import { type RegistryRecord, readRegistryRecord } from './service-record.ts';
import { UNIT_NAME } from './service-unit.ts';

/**
 * Who gets the connections to an address of this node. `other`: a program that is not the registry that was started here, in words. `unseen`: this user
 * may not see the processes of root.
 */
export type Listener =
  | { readonly kind: 'ours' }
  | { readonly kind: 'nobody' }
  | { readonly kind: 'other'; readonly who: string }
  | { readonly kind: 'unseen'; readonly reason: string };

/** The control group in which systemd puts the registry; only root could put something else there. */
const UNIT_GROUP = new RegExp(`/system\\.slice/${UNIT_NAME.replaceAll('.', '\\.')}(?:/|$)`);

export interface ListenerAt {
  /** An IP address of this node. */
  readonly address: string;
  readonly port: number;
}

/**
 * Who listens on an address, and whether it is the registry that was started in this boot: then the socket belongs to root, and the process that holds
 * it is in the control group of the registry's unit or, without systemd, descends from the process whose id podman recorded. An answer alone proves
 * nothing: anybody can repeat what a registry answers.
 */
export async function whoListens(host: Host, { address, port }: ListenerAt): Promise<Listener> {
  const sockets = answering(await listeningSockets(), address, port);
  if (sockets.length === 0) return { kind: 'nobody' };
  const foreign = sockets.find(({ uid }) => uid !== 0);
  if (foreign !== undefined) return { kind: 'other', who: await describe(foreign) };
  if (process.geteuid?.() !== 0)
    return { kind: 'unseen', reason: `root listens on port ${port}, but only root can see with which program` };
  const record = await readRegistryRecord(host);
  for (const socket of sockets) {
    if (record === undefined || !(await isOurs(host, record, socket))) return { kind: 'other', who: await describe(socket) };
  }
  return { kind: 'ours' };
}

/**
 * Who uses a port, on whatever address: `python3 (pid 7) of root`. A socket that is connecting or closing can also hold a port, but is not searched
 * for.
 */
export async function whoTook(port: number): Promise<string> {
  const socket = (await listeningSockets()).find((one) => one.port === port);
  return socket === undefined ? 'a program that does not listen there' : await describe(socket);
}

/** The error for an address that another program listens on. */
export function addressTaken(address: string, who: string): PrestageError {
  return new PrestageError(
    'ERR_REGISTRY_TAKEN',
    `${address} is taken by ${who}`,
    'Stop that program, or set registry-port to another port',
  );
}

async function isOurs(host: Host, { how }: RegistryRecord, { inode }: ListeningSocket): Promise<boolean> {
  const started = Number.parseInt(await readFile(join(hostPath(host, REGISTRY_RUN), FILES.pid), 'utf8').catch(() => ''), 10);
  // Looking at one process is quick; looking at all is not.
  const holders = (await holdsSocket(started, inode)) ? [started] : await socketHolders(inode);
  for (const holder of holders) {
    const lineage = await lineageOf(holder);
    if (how === 'podman' ? lineage.includes(started) : await isInUnit(lineage)) return true;
  }
  return false;
}

/** A runtime may give the container a control group of its own; but its monitor, conmon, is in that of the unit. */
async function isInUnit(lineage: readonly number[]): Promise<boolean> {
  const groups = await Promise.all(lineage.map(controlGroupsOf));
  return groups.flat().some((group) => UNIT_GROUP.test(group));
}

/** With the rights of its unit, the agent does not see processes of other users: then only the user is named. */
async function describe({ uid, inode }: ListeningSocket): Promise<string> {
  const [pid] = await socketHolders(inode);
  const program = pid === undefined ? 'a program' : await describeProcess(pid);
  return `${program} of ${uid === 0 ? 'root' : `the user with the id ${uid}`}`;
}
