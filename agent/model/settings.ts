import { PrestageError } from './errors.ts';
import { listFaults } from './faults.ts';
import {
  type DeliveryChoice,
  describeRaw,
  type GivenBy,
  type GivenValue,
  type Policy,
  SETTING_KEYS,
  type ServeSetting,
  type SettingKey,
  type SettingValues,
  settingReaders,
} from './setting-values.ts';
import { readSettingsFile, type SettingsFile } from './settings-file.ts';
import type { Stage } from './stage.ts';
import type { PlacementChoice, TrustChoice } from './store.ts';

/** How the agent works. A field that is left out has no default: the agent determines the value, or the command requires it. */
export interface Settings {
  readonly stage?: Stage;
  /** GPT name of the data partition. */
  readonly label: string;
  readonly delivery: DeliveryChoice;
  readonly trust: TrustChoice;
  readonly placement: PlacementChoice;
  /** Memory that a store image in memory must leave free; if left out, it depends on the memory of the machine. */
  readonly memoryReserveBytes?: number;
  readonly serve: ServeSetting;
  /** IP address or host name that other nodes use to reach this node; required if it serves the cluster. */
  readonly serveAddress?: string;
  readonly registryPort: number;
  /** Image of the registry; if left out, the one that the bundle names. */
  readonly registryImage?: string;
  /** The command that starts distribution in that image: a program and its arguments. */
  readonly registryCommand: readonly string[];
  /** Certificate (PEM) and key for the registry that serves the cluster. */
  readonly tlsCertificate: string;
  readonly tlsKey: string;
  /** Whether the main registries.conf is changed instead of a drop-in added. */
  readonly rewrite: boolean;
  /** Whether images are never pulled from their sources. */
  readonly blockSource: boolean;
  /** Images that are loaded at the same time, 1 to 64; if left out, it depends on cores, memory and scratch space. */
  readonly parallel?: number;
  /** Attempts after the first, per image, 0 to 20. */
  readonly retries: number;
  readonly policy: Policy;
  /** Root directory of containers-storage; if left out, the one in this machine's storage.conf. */
  readonly graphroot?: string;
  readonly runroot?: string;
  /** Directory for blobs before they are loaded into storage. */
  readonly scratch?: string;
  /** The directory that stands for `/`. */
  readonly root: string;
  /** A directory to read instead of a partition. */
  readonly bundle?: string;
  /** Hash that the manifest of the bundle must have, 64 lower-case hex digits. */
  readonly bundleSha256?: string;
  /** How long to wait for the partition, 0 to 3600. */
  readonly deviceWaitSeconds: number;
  /** How long to wait for another instance, 0 to 86 400. */
  readonly lockWaitSeconds: number;
}

/**
 * Only root can listen below 1024, so no other user of the node can take the port while the registry is down. OpenShift nodes use 22, 53, 80,
 * 111 and 443 of these ports (network flow matrix). From 512 on, rresvport(3), bindresvport(3) and NFS clients use random ports for their
 * connections. 288 to 307 are not assigned to any service (IANA, Service Name and Transport Protocol Port Number Registry).
 */
const DEFAULT_REGISTRY_PORT = 305;
/** For the component docker-registry of releases from 4.21 on. Source: docs/field-facts.md, "Registry image". */
const DEFAULT_REGISTRY_COMMAND = '/usr/bin/distribution serve /etc/registry/config.yaml';
/** Where ignition puts the certificate of a node that serves the cluster. */
const TLS_DIRECTORY = '/etc/prestage-agent/tls';

const MIB = 1024 * 1024;

/** Sources of settings, in rising order: a later one overrides an earlier one. */
export interface SettingsInput {
  /** /etc/prestage-agent/config.yaml, if it exists. */
  readonly file?: SettingsFile | undefined;
  /** Only variables `PRESTAGE_*` with names of settings count; an empty variable counts as not set. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** By the names of the settings; undefined if a flag is not given. */
  readonly flags?: Readonly<Partial<Record<SettingKey, string | undefined>>>;
}

/** The source of the value of a setting. */
export type SettingSource = 'default' | GivenBy;

/**
 * The effective settings.
 * Source: docs/config.example.yaml.
 * @throws PrestageError ERR_SETTINGS with every fault in the file, the environment and the flags, including values that are overridden
 */
export function resolveSettings(input: SettingsInput): Settings {
  const { values } = resolve(input);
  const { stage, parallel = 'auto', graphroot, runroot, scratch, bundle, 'memory-reserve': memoryReserve = 'auto' } = values;
  return {
    ...(stage !== undefined && { stage }),
    label: values.label ?? 'data',
    delivery: values.delivery ?? 'auto',
    ...(parallel !== 'auto' && { parallel }),
    retries: values.retries ?? 3,
    policy: values.policy ?? 'open',
    trust: values.trust ?? 'auto',
    placement: values.placement ?? 'auto',
    ...(memoryReserve !== 'auto' && { memoryReserveBytes: memoryReserve * MIB }),
    serve: values.serve ?? 'node',
    ...(values['serve-address'] !== undefined && { serveAddress: values['serve-address'] }),
    registryPort: values['registry-port'] ?? DEFAULT_REGISTRY_PORT,
    ...(values['registry-image'] !== undefined && { registryImage: values['registry-image'] }),
    registryCommand: (values['registry-command'] ?? DEFAULT_REGISTRY_COMMAND).split(' '),
    tlsCertificate: values['tls-certificate'] ?? `${TLS_DIRECTORY}/registry.crt`,
    tlsKey: values['tls-key'] ?? `${TLS_DIRECTORY}/registry.key`,
    rewrite: values.rewrite ?? false,
    blockSource: values['block-source'] ?? false,
    ...(graphroot !== undefined && { graphroot }),
    ...(runroot !== undefined && { runroot }),
    ...(scratch !== undefined && { scratch }),
    root: values.root ?? '/',
    ...(bundle !== undefined && { bundle }),
    ...(values['bundle-sha256'] !== undefined && { bundleSha256: values['bundle-sha256'] }),
    deviceWaitSeconds: values['device-wait'] ?? 60,
    lockWaitSeconds: values['lock-wait'] ?? 0,
  };
}

/**
 * The source of the value of each setting, for the status.
 * @throws PrestageError ERR_SETTINGS as resolveSettings
 */
export function settingSources(input: SettingsInput): Readonly<Record<SettingKey, SettingSource>> {
  const { sources } = resolve(input);
  const sourceOf = (key: SettingKey): SettingSource => sources.get(key) ?? 'default';
  return {
    stage: sourceOf('stage'),
    label: sourceOf('label'),
    delivery: sourceOf('delivery'),
    trust: sourceOf('trust'),
    placement: sourceOf('placement'),
    'memory-reserve': sourceOf('memory-reserve'),
    serve: sourceOf('serve'),
    'serve-address': sourceOf('serve-address'),
    'registry-port': sourceOf('registry-port'),
    'registry-image': sourceOf('registry-image'),
    'registry-command': sourceOf('registry-command'),
    'tls-certificate': sourceOf('tls-certificate'),
    'tls-key': sourceOf('tls-key'),
    rewrite: sourceOf('rewrite'),
    'block-source': sourceOf('block-source'),
    parallel: sourceOf('parallel'),
    retries: sourceOf('retries'),
    policy: sourceOf('policy'),
    graphroot: sourceOf('graphroot'),
    runroot: sourceOf('runroot'),
    scratch: sourceOf('scratch'),
    root: sourceOf('root'),
    bundle: sourceOf('bundle'),
    'bundle-sha256': sourceOf('bundle-sha256'),
    'device-wait': sourceOf('device-wait'),
    'lock-wait': sourceOf('lock-wait'),
  };
}

/** The environment variable of a setting. */
export function variableOf(key: SettingKey): string {
  return `PRESTAGE_${key.replaceAll('-', '_').toUpperCase()}`;
}

type PartialValues = { -readonly [K in SettingKey]?: SettingValues[K] };

function resolve(input: SettingsInput): { readonly values: PartialValues; readonly sources: ReadonlyMap<SettingKey, GivenBy> } {
  const file = input.file === undefined ? undefined : readSettingsFile(input.file);
  const faults = [...(file?.faults ?? [])];
  const values: PartialValues = {};
  const sources = new Map<SettingKey, GivenBy>();

  function take<K extends SettingKey>(key: K, given: GivenValue | undefined): void {
    if (given === undefined) return;
    const reading = settingReaders[key](given.raw, given.source);
    if ('must' in reading) {
      const name = given.source === 'file' ? `${key} ` : '';
      faults.push(`${given.where}: ${name}must be ${reading.must}, got ${describeRaw(given.raw)}`);
      return;
    }
    values[key] = reading.value;
    sources.set(key, given.source);
  }

  for (const key of SETTING_KEYS) take(key, file?.given.get(key));
  for (const key of SETTING_KEYS) take(key, fromEnv(key, input.env?.[variableOf(key)]));
  for (const key of SETTING_KEYS) take(key, fromFlag(key, input.flags?.[key]));
  if (faults.length > 0) throw new PrestageError('ERR_SETTINGS', listFaults('The settings cannot be used', faults), REMEDY);
  return { values, sources };
}

function fromEnv(key: SettingKey, raw: string | undefined): GivenValue | undefined {
  return raw === undefined || raw === '' ? undefined : { raw, source: 'env', where: variableOf(key) };
}

function fromFlag(key: SettingKey, raw: string | undefined): GivenValue | undefined {
  return raw === undefined ? undefined : { raw, source: 'flag', where: `--${key}` };
}

const REMEDY = 'Correct or remove the settings named above; prestage-agent run --help lists all settings';
