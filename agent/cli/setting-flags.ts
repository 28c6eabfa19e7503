import { isSettingKey, type SettingKey } from '../model/setting-values.ts';
import { variableOf } from '../model/settings.ts';
import type { Flag } from './command-spec.ts';
import type { SettingFlags } from './context.ts';

const FLAGS: Readonly<Record<SettingKey, { readonly value: string; readonly help: string }>> = {
  stage: { value: '<stage>', help: 'discovery or installed' },
  label: { value: '<name>', help: 'GPT label of the data partition (default: data)' },
  delivery: { value: '<way>', help: 'auto, extract, registry or mount (default: auto)' },
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
    return isSettingKey(key) && typeof value === 'string' ? [[key, value]] : [];
  });
  return Object.fromEntries(entries);
}
