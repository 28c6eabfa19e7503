import { isSettingKey, type SettingKey } from '../model/setting-values.ts';
import { variableOf } from '../model/settings.ts';
import type { Flag } from './command-spec.ts';
import type { SettingFlags } from './context.ts';

const FLAGS: Readonly<Record<SettingKey, { readonly value: string; readonly help: string }>> = {
  stage: { value: '<stage>', help: 'discovery or installed' },
  label: { value: '<name>', help: 'GPT label of the data partition (default: data)' },
  delivery: { value: '<way>', help: 'auto, extract, registry or mount (default: auto)' },
  trust: {
    value: '<kind>',
    help: 'how a store image is checked: auto, verity (by the kernel during reads), hash (before the mount), background (after the mount)',
  },
  placement: {
    value: '<place>',
    help: 'where a mounted store image is kept: auto, ram, partition or disk (default: ram in discovery, otherwise partition)',
  },
  'memory-reserve': {
    value: '<MiB>',
    help: 'memory that a store image in memory must leave free, 0 to 1048576 (default: auto, an eighth of the memory, 256 to 2048)',
  },
  serve: { value: '<whom>', help: 'clients of the registry: node or cluster (default: node, on loopback)' },
  'serve-address': { value: '<address>', help: 'IP address or host name that other nodes use to reach this node' },
  'registry-port': { value: '<n>', help: 'port of the registry, 1 to 65535 (default: 305)' },
  'registry-image': { value: '<reference>', help: 'image of the registry (default: the one that the bundle names)' },
  'registry-command': {
    value: '<words>',
    help: 'command in that image that starts the registry (default: /usr/bin/distribution serve /etc/registry/config.yaml)',
  },
  'tls-certificate': {
    value: '<file>',
    help: 'certificate of the registry if it serves the cluster (default: /etc/prestage-agent/tls/registry.crt)',
  },
  'tls-key': { value: '<file>', help: 'key of that certificate (default: /etc/prestage-agent/tls/registry.key)' },
  rewrite: { value: '[yes|no]', help: 'write the mirrors to registries.conf itself, not to a drop-in (default: no)' },
  'block-source': { value: '[yes|no]', help: 'never pull images of the bundle from their sources (default: no)' },
  parallel: { value: '<n>', help: 'images at a time, 1 to 64, or auto: from cores, memory and scratch space (default: auto)' },
  retries: { value: '<n>', help: 'further attempts for each image, 0 to 20 (default: 3)' },
  policy: { value: '<policy>', help: 'on failure: open lets the boot continue (exit code + 64), closed fails the unit (default: open)' },
  graphroot: { value: '<dir>', help: 'containers-storage to load into (default: from storage.conf)' },
  runroot: { value: '<dir>', help: 'run directory of that containers-storage (default: from storage.conf)' },
  scratch: {
    value: '<dir>',
    help: 'directory for unpacked blobs (default: memory if it is large enough, otherwise /var/lib/prestage-agent)',
  },
  root: { value: '<dir>', help: 'directory that stands for / (default: /)' },
  bundle: { value: '<dir>', help: 'read this directory instead of a partition' },
  'bundle-sha256': { value: '<hex>', help: 'sha256 that prestage.json of the bundle must have (default: any)' },
  'device-wait': { value: '<seconds>', help: 'how long to wait for the partition, 0 to 3600 (default: 60)' },
  'lock-wait': { value: '<seconds>', help: 'how long to wait for another instance, 0 to 86400 (default: 0)' },
};

/** The flags of some settings, each with its environment variable. */
export function settingFlags(keys: readonly SettingKey[]): readonly Flag[] {
  return keys.map((key) => ({ usage: `--${key} ${FLAGS[key].value}`, help: `${FLAGS[key].help} [${variableOf(key)}]` }));
}

export const dryRunFlag: Flag = { usage: '--dry-run', help: 'print the plan and write nothing' };

/** The settings among the options: commander(1) gives them in camel case. */
export function settingsOf(options: Readonly<Record<string, unknown>>): SettingFlags {
  const entries = Object.entries(options).flatMap(([name, value]): [SettingKey, string][] => {
    const key = name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    return isSettingKey(key) && (typeof value === 'string' || value === true) ? [[key, value === true ? 'yes' : value]] : [];
  });
  return Object.fromEntries(entries);
}
