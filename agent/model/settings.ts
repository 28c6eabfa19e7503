import { PrestageError } from './errors.ts';
import { listFaults } from './faults.ts';
import { describeRaw, type GivenValue } from './setting-readers.ts';
import {
  readSetting,
  SETTING_KEYS,
  type Setting,
  type SettingKey,
  type Settings,
  type SettingValues,
  settingTable,
} from './setting-table.ts';
import { readSettingsFile, type SettingsFile } from './settings-file.ts';

export type { Settings };

/** Sources of settings, in rising order: a later one overrides an earlier one. */
export interface SettingsInput {
  /** /etc/prestage-agent/config.yaml, if it exists. */
  readonly file?: SettingsFile | undefined;
  /** Only variables `PRESTAGE_*` with names of settings count; an empty variable counts as not set. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** By the names of the settings; undefined if a flag is not given. */
  readonly flags?: Readonly<Partial<Record<SettingKey, string | undefined>>>;
}

/**
 * The effective settings.
 * Source: docs/config.example.yaml.
 * @throws PrestageError ERR_SETTINGS with every fault in the file, the environment and the flags, including values that are overridden
 */
export function resolveSettings(input: SettingsInput): Settings {
  const values = readAll(input);
  const fields = SETTING_KEYS.flatMap((key): (readonly [string, unknown])[] => {
    const used = usedValue(settingTable[key], values[key]);
    return used === undefined ? [] : [[settingTable[key].field, used]];
  });
  // The table gives both the fields and their types.
  return Object.fromEntries(fields) as unknown as Settings;
}

function usedValue(setting: Setting, given: unknown): unknown {
  const value = given ?? setting.byDefault;
  return value === undefined || setting.use === undefined ? value : setting.use(value as never);
}

/** The environment variable of a setting. */
export function variableOf(key: SettingKey): string {
  return `PRESTAGE_${key.replaceAll('-', '_').toUpperCase()}`;
}

type PartialValues = { -readonly [K in SettingKey]?: SettingValues[K] };

function readAll(input: SettingsInput): PartialValues {
  const file = input.file === undefined ? undefined : readSettingsFile(input.file);
  const faults = [...(file?.faults ?? [])];
  const values: PartialValues = {};

  function take<K extends SettingKey>(key: K, given: GivenValue | undefined): void {
    if (given === undefined) return;
    const reading = readSetting(key, given.raw, given.source);
    if ('must' in reading) {
      const name = given.source === 'file' ? `${key} ` : '';
      faults.push(`${given.where}: ${name}must be ${reading.must}, got ${describeRaw(given.raw)}`);
      return;
    }
    values[key] = reading.value;
  }

  for (const key of SETTING_KEYS) take(key, file?.given.get(key));
  for (const key of SETTING_KEYS) take(key, fromEnv(key, input.env?.[variableOf(key)]));
  for (const key of SETTING_KEYS) take(key, fromFlag(key, input.flags?.[key]));
  if (faults.length > 0) throw new PrestageError('ERR_SETTINGS', listFaults('The settings cannot be used', faults), REMEDY);
  return values;
}

function fromEnv(key: SettingKey, raw: string | undefined): GivenValue | undefined {
  return raw === undefined || raw === '' ? undefined : { raw, source: 'env', where: variableOf(key) };
}

function fromFlag(key: SettingKey, raw: string | undefined): GivenValue | undefined {
  return raw === undefined ? undefined : { raw, source: 'flag', where: `--${key}` };
}

const REMEDY = 'Correct or remove the settings named above; prestage-agent run --help lists all settings';
