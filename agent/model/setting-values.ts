import { isIP } from 'node:net';
import { quoteInput } from './faults.ts';
import { formatReference, parseReference } from './reference.ts';
import { STAGES, type Stage } from './stage.ts';
import { PLACEMENT_CHOICES, type PlacementChoice, TRUST_CHOICES, type TrustChoice } from './store.ts';

/** How engines get the images; `auto` takes the fastest way that the payload and the stage allow. */
export type DeliveryChoice = 'auto' | 'extract' | 'registry' | 'mount';
/** The effect of a failure on the boot: `open` lets it continue, `closed` fails the unit. */
export type Policy = 'open' | 'closed';
/** Clients of the registry: only this node, or the nodes of the cluster. */
export type ServeSetting = 'node' | 'cluster';

/** The settings by their names in the file; on the command line they are `--device-wait`, in the environment `PRESTAGE_DEVICE_WAIT`. */
export interface SettingValues {
  readonly stage: Stage;
  readonly label: string;
  readonly delivery: DeliveryChoice;
  readonly trust: TrustChoice;
  readonly placement: PlacementChoice;
  readonly 'memory-reserve': number | 'auto';
  readonly serve: ServeSetting;
  readonly 'serve-address': string;
  readonly 'registry-port': number;
  readonly 'registry-image': string;
  readonly 'registry-command': string;
  readonly 'tls-certificate': string;
  readonly 'tls-key': string;
  readonly rewrite: boolean;
  readonly 'block-source': boolean;
  readonly parallel: number | 'auto';
  readonly retries: number;
  readonly policy: Policy;
  readonly graphroot: string;
  readonly runroot: string;
  readonly scratch: string;
  readonly root: string;
  readonly bundle: string;
  readonly 'bundle-sha256': string;
  readonly 'device-wait': number;
  readonly 'lock-wait': number;
}

export type SettingKey = keyof SettingValues;

/** The place in which a value was given. */
export type GivenBy = 'file' | 'env' | 'flag';

/** A value before it is read: text from the environment and the command line, a YAML scalar from the file. */
export interface GivenValue {
  readonly raw: unknown;
  readonly source: GivenBy;
  /** The place, for messages: `/etc/prestage-agent/config.yaml:3`, `PRESTAGE_LABEL`, `--label`. */
  readonly where: string;
}

/** The value of a setting, or a description of valid values. */
type Reading<T> = { readonly value: T } | { readonly must: string };

type Reader<T> = (raw: unknown, source: GivenBy) => Reading<T>;

/** How each setting is read, in the order of help and status. */
export const settingReaders: { readonly [K in SettingKey]: Reader<SettingValues[K]> } = {
  stage: oneOf(STAGES),
  label: readLabel,
  delivery: oneOf(['auto', 'extract', 'registry', 'mount']),
  trust: oneOf(TRUST_CHOICES),
  placement: oneOf(PLACEMENT_CHOICES),
  'memory-reserve': readMemoryReserve,
  serve: oneOf(['node', 'cluster']),
  'serve-address': readAddress,
  'registry-port': wholeNumber(1, 65_535),
  'registry-image': readImage,
  'registry-command': readCommand,
  'tls-certificate': readAbsolutePath,
  'tls-key': readAbsolutePath,
  rewrite: readAnswer,
  'block-source': readAnswer,
  parallel: readParallel,
  retries: wholeNumber(0, 20),
  policy: oneOf(['open', 'closed']),
  graphroot: readStoragePath,
  runroot: readStoragePath,
  scratch: readAbsolutePath,
  root: readPath,
  bundle: readPath,
  'bundle-sha256': readSha256,
  'device-wait': wholeNumber(0, 3600, 'seconds'),
  'lock-wait': wholeNumber(0, 86_400, 'seconds'),
};

export const SETTING_KEYS: readonly SettingKey[] = Object.keys(settingReaders).filter(isSettingKey);

export function isSettingKey(name: string): name is SettingKey {
  return Object.hasOwn(settingReaders, name);
}

/** A given value, for a message; undefined stands for a value that is not a scalar. */
export function describeRaw(raw: unknown): string {
  if (raw === undefined) return 'a list or a mapping';
  if (raw === null) return 'nothing';
  if (typeof raw === 'string') return quoteInput(raw);
  return typeof raw === 'number' ? String(raw) : JSON.stringify(raw);
}

function oneOf<const T extends string>(allowed: readonly T[]): Reader<T> {
  return (raw) => {
    const value = allowed.find((candidate) => candidate === raw);
    return value === undefined ? { must: `one of ${allowed.join(', ')}` } : { value };
  };
}

/** MiB. */
function readMemoryReserve(raw: unknown, source: GivenBy): Reading<number | 'auto'> {
  if (raw === 'auto') return { value: 'auto' };
  const reading = wholeNumber(0, 1_048_576)(raw, source);
  return 'must' in reading ? { must: 'auto or a whole number from 0 to 1048576 (MiB)' } : reading;
}

function wholeNumber(from: number, to: number, unit?: string): Reader<number> {
  const must = `a whole number from ${from} to ${to}${unit === undefined ? '' : ` (${unit})`}`;
  return (raw) => {
    const value = typeof raw === 'string' && /^[0-9]{1,9}$/.test(raw) ? Number(raw) : raw;
    return typeof value === 'number' && Number.isInteger(value) && value >= from && value <= to ? { value } : { must };
  };
}

function readParallel(raw: unknown, source: GivenBy): Reading<number | 'auto'> {
  if (raw === 'auto') return { value: raw };
  const number = wholeNumber(1, 64)(raw, source);
  return 'must' in number ? { must: `auto or ${number.must}` } : number;
}

/**
 * A partition's name. Source: UEFI specification, "GPT Partition Entry": 36 UTF-16 units; `/`, `.` and `..` cannot be a link of
 * /dev/disk/by-partlabel.
 */
function readLabel(raw: unknown): Reading<string> {
  const isLabel = typeof raw === 'string' && raw.length >= 1 && raw.length <= 36 && raw.isWellFormed() && !/[/\p{Cc}]|^\.\.?$/u.test(raw);
  return isLabel ? { value: raw } : { must: 'a GPT partition name: 1 to 36 characters without / and control characters' };
}

function readAbsolutePath(raw: unknown): Reading<string> {
  return isPath(raw) && raw.startsWith('/') ? { value: raw } : { must: 'an absolute path' };
}

/** The address of this node for other nodes: an IP address (IPv6 without brackets) or a host name (RFC 1123, 2.1), not a wildcard. */
function readAddress(raw: unknown): Reading<string> {
  const isAddress =
    typeof raw === 'string' &&
    (isIP(raw) === 0 ? /^(?!.{254})(?=.*[A-Za-z])[0-9A-Za-z](?:[0-9A-Za-z.-]*[0-9A-Za-z])?$/.test(raw) : raw !== '0.0.0.0' && raw !== '::');
  return isAddress ? { value: raw } : { must: 'an IP address or host name that other nodes use to reach this node' };
}

/** A full reference: podman gets it as it is. */
function readImage(raw: unknown): Reading<string> {
  const must = 'an image reference: registry/repository with a tag or a digest';
  if (typeof raw !== 'string') return { must };
  try {
    return { value: formatReference(parseReference(raw)) };
  } catch {
    return { must };
  }
}

/** A program and its arguments, separated by single spaces. There is no quoting, because no argument of a registry needs it. */
function readCommand(raw: unknown): Reading<string> {
  const isCommand = typeof raw === 'string' && /^\/\S+(?: \S+)*$/.test(raw) && !/\p{Cc}/u.test(raw);
  return isCommand ? { value: raw } : { must: 'the absolute path of a program in the image and its arguments, separated by single spaces' };
}

function readAnswer(raw: unknown): Reading<boolean> {
  if (raw === true || raw === 'yes') return { value: true };
  return raw === false || raw === 'no' ? { value: false } : { must: 'yes or no' };
}

/** On the command line, a path can be relative to the working directory; a file and a unit have none. */
function readPath(raw: unknown, source: GivenBy): Reading<string> {
  if (source !== 'flag') return readAbsolutePath(raw);
  return isPath(raw) ? { value: raw } : { must: 'a path' };
}

/** Upper-case digits are accepted, because some tools print them. */
function readSha256(raw: unknown): Reading<string> {
  return typeof raw === 'string' && /^[0-9a-f]{64}$/i.test(raw) ? { value: raw.toLowerCase() } : { must: '64 hex digits' };
}

/** Source: containers-storage notation `[driver@graphroot+runroot:options]`, containers-transports(5), which has no escapes. */
function readStoragePath(raw: unknown): Reading<string> {
  const path = readAbsolutePath(raw);
  return 'value' in path && !/[+:\]]/.test(path.value) ? path : { must: 'an absolute path without + : ]' };
}

function isPath(raw: unknown): raw is string {
  return typeof raw === 'string' && raw !== '' && !/\p{Cc}/u.test(raw);
}
