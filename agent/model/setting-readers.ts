import { isIP } from 'node:net';
import { quoteInput } from './faults.ts';
import { formatReference, parseReference } from './reference.ts';

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
export type Reading<T> = { readonly value: T } | { readonly must: string };

export type Reader<T> = (raw: unknown, source: GivenBy) => Reading<T>;

/** A given value, for a message; undefined stands for a value that is not a scalar. */
export function describeRaw(raw: unknown): string {
  if (raw === undefined) return 'a list or a mapping';
  if (raw === null) return 'nothing';
  if (typeof raw === 'string') return quoteInput(raw);
  return typeof raw === 'number' ? String(raw) : JSON.stringify(raw);
}

export function oneOf<const T extends string>(allowed: readonly T[]): Reader<T> {
  return (raw) => {
    const value = allowed.find((candidate) => candidate === raw);
    return value === undefined ? { must: `one of ${allowed.join(', ')}` } : { value };
  };
}

/** MiB. */
export function readMemoryReserve(raw: unknown, source: GivenBy): Reading<number | 'auto'> {
  if (raw === 'auto') return { value: 'auto' };
  const reading = wholeNumber(0, 1_048_576)(raw, source);
  return 'must' in reading ? { must: 'auto or a whole number from 0 to 1048576 (MiB)' } : reading;
}

export function wholeNumber(from: number, to: number, unit?: string): Reader<number> {
  const must = `a whole number from ${from} to ${to}${unit === undefined ? '' : ` (${unit})`}`;
  return (raw) => {
    const value = typeof raw === 'string' && /^[0-9]{1,9}$/.test(raw) ? Number(raw) : raw;
    return typeof value === 'number' && Number.isInteger(value) && value >= from && value <= to ? { value } : { must };
  };
}

export function readParallel(raw: unknown, source: GivenBy): Reading<number | 'auto'> {
  if (raw === 'auto') return { value: raw };
  const number = wholeNumber(1, 64)(raw, source);
  return 'must' in number ? { must: `auto or ${number.must}` } : number;
}

/**
 * A partition's name. Source: UEFI specification, "GPT Partition Entry": 36 UTF-16 units; `/`, `.` and `..` cannot be a link of
 * /dev/disk/by-partlabel.
 */
export function readLabel(raw: unknown): Reading<string> {
  const isLabel = typeof raw === 'string' && raw.length >= 1 && raw.length <= 36 && raw.isWellFormed() && !/[/\p{Cc}]|^\.\.?$/u.test(raw);
  return isLabel ? { value: raw } : { must: 'a GPT partition name: 1 to 36 characters without / and control characters' };
}

export function readAbsolutePath(raw: unknown): Reading<string> {
  return isPath(raw) && raw.startsWith('/') ? { value: raw } : { must: 'an absolute path' };
}

/** The address of this node for other nodes: an IP address (IPv6 without brackets) or a host name (RFC 1123, 2.1), not a wildcard. */
export function readAddress(raw: unknown): Reading<string> {
  const isAddress =
    typeof raw === 'string' &&
    (isIP(raw) === 0 ? /^(?!.{254})(?=.*[A-Za-z])[0-9A-Za-z](?:[0-9A-Za-z.-]*[0-9A-Za-z])?$/.test(raw) : raw !== '0.0.0.0' && raw !== '::');
  return isAddress ? { value: raw } : { must: 'an IP address or host name that other nodes use to reach this node' };
}

/** A full reference: podman gets it as it is. */
export function readImage(raw: unknown): Reading<string> {
  const must = 'an image reference: registry/repository with a tag or a digest';
  if (typeof raw !== 'string') return { must };
  try {
    return { value: formatReference(parseReference(raw)) };
  } catch {
    return { must };
  }
}

/** A program and its arguments, separated by single spaces. There is no quoting, because no argument of a registry needs it. */
export function readCommand(raw: unknown): Reading<string> {
  const isCommand = typeof raw === 'string' && /^\/\S+(?: \S+)*$/.test(raw) && !/\p{Cc}/u.test(raw);
  return isCommand ? { value: raw } : { must: 'the absolute path of a program in the image and its arguments, separated by single spaces' };
}

export function readAnswer(raw: unknown): Reading<boolean> {
  if (raw === true || raw === 'yes') return { value: true };
  return raw === false || raw === 'no' ? { value: false } : { must: 'yes or no' };
}

/** On the command line, a path can be relative to the working directory; a file and a unit have none. */
export function readPath(raw: unknown, source: GivenBy): Reading<string> {
  if (source !== 'flag') return readAbsolutePath(raw);
  return isPath(raw) ? { value: raw } : { must: 'a path' };
}

/** Upper-case digits are accepted, because some tools print them. */
export function readSha256(raw: unknown): Reading<string> {
  return typeof raw === 'string' && /^[0-9a-f]{64}$/i.test(raw) ? { value: raw.toLowerCase() } : { must: '64 hex digits' };
}

/** Source: containers-storage notation `[driver@graphroot+runroot:options]`, containers-transports(5), which has no escapes. */
export function readStoragePath(raw: unknown): Reading<string> {
  const path = readAbsolutePath(raw);
  return 'value' in path && !/[+:\]]/.test(path.value) ? path : { must: 'an absolute path without + : ]' };
}

function isPath(raw: unknown): raw is string {
  return typeof raw === 'string' && raw !== '' && !/\p{Cc}/u.test(raw);
}
