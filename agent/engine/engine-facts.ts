import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Host, hostPath } from '../host/host.ts';
import type { Stage } from '../model/stage.ts';
import { engineUnits } from './engine-units.ts';
import { DEFAULT_STORAGE_CONF } from './storage-conf.ts';

export interface ConfFile {
  /** On the node. */
  readonly path: string;
  readonly text: string;
}

/** How the engines of a node are configured. */
export interface EngineFacts {
  /** The text of the storage.conf that is in force for root. */
  readonly storageConf: string;
  /** crio.conf and its drop-ins without the agent's, in the order in which CRI-O reads them; undefined if there is no /etc/crio. */
  readonly crio?: readonly ConfFile[];
  /** Units that start podman or skopeo, as `name.service`; empty if systemd does not run. */
  readonly units: readonly string[];
  readonly hasSystemd: boolean;
  /** Whether login shells read /etc/profile.d. */
  readonly hasProfile: boolean;
}

export const ETC_STORAGE_CONF = '/etc/containers/storage.conf';
export const CRIO_DROP_IN = '/etc/crio/crio.conf.d/50-prestage.conf';

/** Source: containers-storage.conf(5): /etc goes before /usr/share. */
const STORAGE_CONFS = [ETC_STORAGE_CONF, '/usr/share/containers/storage.conf'];
/** Looks at the engines' configuration. */
export function engineFacts(host: Host, stage: Stage): EngineFacts {
  const isInstalled = stage === 'installed';
  const hasSystemd = isDirectory(host, '/run/systemd/system');
  const crio = isInstalled ? crioFiles(host) : undefined;
  return {
    storageConf: storageConfInForce(host),
    ...(crio !== undefined && { crio }),
    units: isInstalled && hasSystemd ? engineUnits(host) : [],
    hasSystemd,
    hasProfile: isDirectory(host, '/etc/profile.d'),
  };
}

/** The text of the storage.conf that root's engines read, unless a variable names another one. */
export function storageConfInForce(host: Host): string {
  return STORAGE_CONFS.map((path) => textOf(host, path)).find((text) => text !== undefined) ?? DEFAULT_STORAGE_CONF;
}

/** Source: crio.conf.d(5): the drop-ins after crio.conf, in the order of their names, whatever these end in. */
function crioFiles(host: Host): readonly ConfFile[] | undefined {
  if (!isDirectory(host, '/etc/crio')) return undefined;
  const dropIns = namesIn(host, '/etc/crio/crio.conf.d')
    .toSorted()
    .map((name) => join('/etc/crio/crio.conf.d', name));
  return ['/etc/crio/crio.conf', ...dropIns]
    .filter((path) => path !== CRIO_DROP_IN)
    .flatMap((path) => {
      const text = textOf(host, path);
      return text === undefined ? [] : [{ path, text }];
    });
}

function namesIn(host: Host, directory: string): readonly string[] {
  return isDirectory(host, directory) ? readdirSync(hostPath(host, directory)) : [];
}

/** Undefined also for directories and dangling links, which configuration folders can hold. */
function textOf(host: Host, path: string): string | undefined {
  const file = hostPath(host, path);
  return statSync(file, { throwIfNoEntry: false })?.isFile() === true ? readFileSync(file, 'utf8') : undefined;
}

function isDirectory(host: Host, path: string): boolean {
  return statSync(hostPath(host, path), { throwIfNoEntry: false })?.isDirectory() === true;
}
