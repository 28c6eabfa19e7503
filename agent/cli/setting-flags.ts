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
    help: 'what makes a store image trusted: auto, verity (by the kernel, as it is read), hash (before it is mounted), background (after it)',
  },
  placement: {
    value: '<place>',
    help: 'where a store image lies while it is mounted: auto, ram, partition or disk (default: ram in discovery, else the partition)',
  },
  'memory-reserve': {
    value: '<MiB>',
    help: 'memory that a store image in memory must leave free, 0 to 1048576 (default: auto, an eighth of all, 256 to 2048)',
  },
  serve: { value: '<whom>', help: 'whom the registry serves: node or cluster (default: node, on loopback)' },
  'serve-address': { value: '<address>', help: 'by what the nodes of the cluster reach this one' },
  'registry-port': { value: '<n>', help: 'port of the registry, 1 to 65535 (default: 305)' },
  'registry-image': { value: '<reference>', help: 'image of the registry (default: the one that the bundle names)' },
  'registry-command': {
    value: '<words>',
    help: 'what starts it in that image (default: /usr/bin/distribution serve /etc/registry/config.yaml)',
  },
  'tls-certificate': {
    value: '<file>',
    help: 'its certificate where it serves the cluster (default: /etc/prestage-agent/tls/registry.crt)',
  },
  'tls-key': { value: '<file>', help: 'key of that certificate (default: /etc/prestage-agent/tls/registry.key)' },
  rewrite: { value: '[yes|no]', help: 'put the mirrors into registries.conf itself, not into a drop-in (default: no)' },
  'block-source': { value: '[yes|no]', help: 'never ask the sources of the images of the bundle (default: no)' },
  parallel: { value: '<n>', help: 'images at a time, 1 to 64, or auto: from cores, memory and scratch (default: auto)' },
  retries: { value: '<n>', help: 'attempts after the first, per image, 0 to 20 (default: 3)' },
  policy: { value: '<policy>', help: 'on failure: open lets the boot go on (exit code + 64), closed fails the unit (default: open)' },
  graphroot: { value: '<dir>', help: 'containers-storage to load into (default: the one of storage.conf)' },
  runroot: { value: '<dir>', help: 'run directory of that containers-storage (default: the one of storage.conf)' },
  scratch: {
    value: '<dir>',
    help: 'where blobs lie on their way (default: memory where it is large enough, else /var/lib/prestage-agent)',
  },
  root: { value: '<dir>', help: 'directory that stands for / (default: /)' },
  bundle: { value: '<dir>', help: 'read this directory instead of a partition' },
  'bundle-sha256': { value: '<hex>', help: 'sha256 that prestage.json of the bundle must have (default: any)' },
  'device-wait': { value: '<seconds>', help: 'how long a late partition is waited for, 0 to 3600 (default: 60)' },
  'lock-wait': { value: '<seconds>', help: 'how long another instance is waited for, 0 to 86400 (default: 0)' },
};

/** The flags of some settings, with the environment variable that says the same. */
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
