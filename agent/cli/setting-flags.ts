import { isSettingKey, type SettingKey, settingTable } from '../model/setting-table.ts';
import { variableOf } from '../model/settings.ts';
import type { Flag } from './command-spec.ts';
import type { SettingFlags } from './context.ts';

/** The flags of some settings, each with its environment variable. */
export function settingFlags(keys: readonly SettingKey[]): readonly Flag[] {
  return keys.map((key) => ({ usage: `--${key} ${settingTable[key].value}`, help: `${settingTable[key].help} [${variableOf(key)}]` }));
}

/** Of commands that show progress. */
export const quietFlag: Flag = { usage: '-q, --quiet', help: 'show only the result, warnings and errors, no progress' };

export const dryRunFlag: Flag = { usage: '--dry-run', help: 'print the plan and write nothing' };

/** The settings among the options: commander(1) gives them in camel case. */
export function settingsOf(options: Readonly<Record<string, unknown>>): SettingFlags {
  const entries = Object.entries(options).flatMap(([name, value]): [SettingKey, string][] => {
    const key = name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    return isSettingKey(key) && (typeof value === 'string' || value === true) ? [[key, value === true ? 'yes' : value]] : [];
  });
  return Object.fromEntries(entries);
}

/** For answers that show each cause once. */
export const allFlag: Flag = { usage: '--all', help: 'show every image or file by itself, not by cause' };
