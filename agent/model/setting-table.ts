import {
  type GivenBy,
  oneOf,
  type Reader,
  type Reading,
  readAbsolutePath,
  readAddress,
  readAnswer,
  readCommand,
  readImage,
  readLabel,
  readMemoryReserve,
  readParallel,
  readPath,
  readSha256,
  readStoragePath,
  wholeNumber,
} from './setting-readers.ts';
import { STAGES } from './stage.ts';
import { PLACEMENT_CHOICES, TRUST_CHOICES } from './store.ts';

/**
 * The settings: all that the program has to know about each. Beside this table, a new one stands only in docs/config.example.yaml.
 * The key is its name in the file; its flag is `--device-wait`, its environment variable `PRESTAGE_DEVICE_WAIT`.
 */

export interface Setting {
  /** Its name in `Settings`. */
  readonly field: string;
  readonly read: Reader<unknown>;
  /** A valid value; without one, the agent determines the value, or the command requires it. */
  readonly byDefault?: unknown;
  /** What `Settings` has for a valid value, if that is something else; undefined leaves the field out. */
  readonly use?: (value: never) => unknown;
  /** What follows the flag, in the help. */
  readonly value: string;
  readonly help: string;
}

/**
 * Only root can listen below 1024, so no other user of the node can take the port while the registry is down. OpenShift nodes use 22, 53, 80,
 * 111 and 443 of these ports (network flow matrix). From 512 on, rresvport(3), bindresvport(3) and NFS clients use random ports for their
 * connections. 288 to 307 are not assigned to any service (IANA, Service Name and Transport Protocol Port Number Registry).
 */
const REGISTRY_PORT = 305;
/** For the component docker-registry of releases from 4.21 on. Source: docs/field-facts.md, "Registry image". */
const REGISTRY_COMMAND = '/usr/bin/distribution serve /etc/registry/config.yaml';
/** Where ignition puts the certificate of a node that serves the cluster. */
const TLS_DIRECTORY = '/etc/prestage-agent/tls';

const MIB = 1024 * 1024;

/** In the order of help and status. */
export const settingTable = {
  stage: { field: 'stage', read: oneOf(STAGES), value: '<stage>', help: 'discovery or installed' },
  /** GPT name of the data partition. */
  label: { field: 'label', read: readLabel, byDefault: 'data', value: '<name>', help: 'GPT label of the data partition (default: data)' },
  /** How engines get the images; `auto` takes the fastest way that the payload and the stage allow. */
  delivery: {
    field: 'delivery',
    read: oneOf(['auto', 'extract', 'registry', 'mount']),
    byDefault: 'auto',
    value: '<way>',
    help: 'auto, extract, registry or mount (default: auto)',
  },
  /** `auto` takes the strongest check that does not delay the boot. */
  trust: {
    field: 'trust',
    read: oneOf(TRUST_CHOICES),
    byDefault: 'auto',
    value: '<kind>',
    help: 'how a store image is checked: auto, verity (by the kernel during reads), hash (before the mount), background (after the mount)',
  },
  placement: {
    field: 'placement',
    read: oneOf(PLACEMENT_CHOICES),
    byDefault: 'auto',
    value: '<place>',
    help: 'where a mounted store image is kept: auto, ram, partition or disk (default: ram in discovery, otherwise partition)',
  },
  /** Memory that a store image in memory must leave free; if left out, it depends on the memory of the machine. */
  'memory-reserve': {
    field: 'memoryReserveBytes',
    read: readMemoryReserve,
    byDefault: 'auto',
    use: (mib: number | 'auto') => (mib === 'auto' ? undefined : mib * MIB),
    value: '<MiB>',
    help: 'memory that a store image in memory must leave free, 0 to 1048576 (default: auto, an eighth of the memory, 256 to 2048)',
  },
  /** Clients of the registry: only this node, or the nodes of the cluster. */
  serve: {
    field: 'serve',
    read: oneOf(['node', 'cluster']),
    byDefault: 'node',
    value: '<whom>',
    help: 'clients of the registry: node or cluster (default: node, on loopback)',
  },
  /** Required if the registry serves the cluster. */
  'serve-address': {
    field: 'serveAddress',
    read: readAddress,
    value: '<address>',
    help: 'IP address or host name that other nodes use to reach this node',
  },
  'registry-port': {
    field: 'registryPort',
    read: wholeNumber(1, 65_535),
    byDefault: REGISTRY_PORT,
    value: '<n>',
    help: 'port of the registry, 1 to 65535 (default: 305)',
  },
  /** If left out, the image that the bundle names. */
  'registry-image': {
    field: 'registryImage',
    read: readImage,
    value: '<reference>',
    help: 'image of the registry (default: the one that the bundle names)',
  },
  /** A program and its arguments. */
  'registry-command': {
    field: 'registryCommand',
    read: readCommand,
    byDefault: REGISTRY_COMMAND,
    use: (command: string): readonly string[] => command.split(' '),
    value: '<words>',
    help: 'command in that image that starts the registry (default: /usr/bin/distribution serve /etc/registry/config.yaml)',
  },
  /** Certificate (PEM) and key for the registry that serves the cluster. */
  'tls-certificate': {
    field: 'tlsCertificate',
    read: readAbsolutePath,
    byDefault: `${TLS_DIRECTORY}/registry.crt`,
    value: '<file>',
    help: 'certificate of the registry if it serves the cluster (default: /etc/prestage-agent/tls/registry.crt)',
  },
  'tls-key': {
    field: 'tlsKey',
    read: readAbsolutePath,
    byDefault: `${TLS_DIRECTORY}/registry.key`,
    value: '<file>',
    help: 'key of that certificate (default: /etc/prestage-agent/tls/registry.key)',
  },
  /** Whether the main registries.conf is changed instead of a drop-in added. */
  rewrite: {
    field: 'rewrite',
    read: readAnswer,
    byDefault: false,
    value: '[yes|no]',
    help: 'write the mirrors to registries.conf itself, not to a drop-in (default: no)',
  },
  'block-source': {
    field: 'blockSource',
    read: readAnswer,
    byDefault: false,
    value: '[yes|no]',
    help: 'never pull images of the bundle from their sources (default: no)',
  },
  /** If left out, it depends on cores, memory and scratch space. */
  parallel: {
    field: 'parallel',
    read: readParallel,
    byDefault: 'auto',
    use: (images: number | 'auto') => (images === 'auto' ? undefined : images),
    value: '<n>',
    help: 'images at a time, 1 to 64, or auto: from cores, memory and scratch space (default: auto)',
  },
  /** Attempts after the first, per image. */
  retries: {
    field: 'retries',
    read: wholeNumber(0, 20),
    byDefault: 3,
    value: '<n>',
    help: 'further attempts for each image, 0 to 20 (default: 3)',
  },
  /** The effect of a failure on the boot. */
  policy: {
    field: 'policy',
    read: oneOf(['open', 'closed']),
    byDefault: 'open',
    value: '<policy>',
    help: 'on failure: open lets the boot continue (exit code + 64), closed fails the unit (default: open)',
  },
  /** Root directory of containers-storage; if left out, the one in this machine's storage.conf. */
  graphroot: {
    field: 'graphroot',
    read: readStoragePath,
    value: '<dir>',
    help: 'containers-storage to load into (default: from storage.conf)',
  },
  runroot: {
    field: 'runroot',
    read: readStoragePath,
    value: '<dir>',
    help: 'run directory of that containers-storage (default: from storage.conf)',
  },
  /** Directory for blobs before they are loaded into storage. */
  scratch: {
    field: 'scratch',
    read: readAbsolutePath,
    value: '<dir>',
    help: 'directory for unpacked blobs (default: memory if it is large enough, otherwise /var/lib/prestage-agent)',
  },
  root: { field: 'root', read: readPath, byDefault: '/', value: '<dir>', help: 'directory that stands for / (default: /)' },
  bundle: { field: 'bundle', read: readPath, value: '<dir>', help: 'read this directory instead of a partition' },
  /** 64 lower-case hex digits. */
  'bundle-sha256': {
    field: 'bundleSha256',
    read: readSha256,
    value: '<hex>',
    help: 'sha256 that prestage.json of the bundle must have (default: any)',
  },
  'device-wait': {
    field: 'deviceWaitSeconds',
    read: wholeNumber(0, 3600, 'seconds'),
    byDefault: 60,
    value: '<seconds>',
    help: 'how long to wait for the partition, 0 to 3600 (default: 60)',
  },
  'lock-wait': {
    field: 'lockWaitSeconds',
    read: wholeNumber(0, 86_400, 'seconds'),
    byDefault: 0,
    value: '<seconds>',
    help: 'how long to wait for another instance, 0 to 86400 (default: 0)',
  },
} as const satisfies Readonly<Record<string, Setting>>;

type Table = typeof settingTable;

export type SettingKey = keyof Table;

/** The settings by their names in the file. */
export type SettingValues = { readonly [K in SettingKey]: Table[K]['read'] extends Reader<infer Value> ? Value : never };

type Used<K extends SettingKey> = Exclude<
  Table[K] extends { readonly use: (value: never) => infer Value } ? Value : SettingValues[K],
  undefined
>;
type IsOptional<K extends SettingKey> = Table[K] extends { readonly byDefault: unknown }
  ? Table[K] extends { readonly use: (value: never) => infer Value }
    ? undefined extends Value
      ? true
      : false
    : false
  : true;

/** How the agent works. A field that is left out has no default: the agent determines the value, or the command requires it. */
export type Settings = {
  readonly [K in SettingKey as IsOptional<K> extends true ? never : Table[K]['field']]: Used<K>;
} & {
  readonly [K in SettingKey as IsOptional<K> extends true ? Table[K]['field'] : never]?: Used<K>;
};

export type DeliveryChoice = SettingValues['delivery'];
export type Policy = SettingValues['policy'];

/** Reads a value that was given for a setting. */
export function readSetting<K extends SettingKey>(key: K, raw: unknown, source: GivenBy): Reading<SettingValues[K]> {
  // TypeScript does not see that the reader of a key gives the value of this key.
  return settingTable[key].read(raw, source) as Reading<SettingValues[K]>;
}

export const SETTING_KEYS: readonly SettingKey[] = Object.keys(settingTable).filter(isSettingKey);

export function isSettingKey(name: string): name is SettingKey {
  return Object.hasOwn(settingTable, name);
}
