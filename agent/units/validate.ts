import { posix } from 'node:path';
import { decodeDataUrl } from '../model/data-url.ts';
import { quoteInput } from '../model/faults.ts';
import type { IgnitionConfig, IgnitionResource, IgnitionSpec, IgnitionUnit } from './config.ts';

/** A fault, or a doubtful setting, at one place of a config. */
export interface IgnitionFault {
  /** `error`: Ignition or the installer refuses the config; `warning`: it probably does not do what its author meant. */
  readonly kind: 'error' | 'warning';
  /** Such as `$.storage.files[0].mode`. */
  readonly path: string;
  readonly message: string;
}

/** Suffixes of unit names. Source: systemd.unit(5); ignition config/v3_2/types/unit.go (which knows `.snapshot`, too). */
const UNIT_SUFFIXES = '.service .socket .device .mount .automount .swap .target .path .timer .snapshot .slice .scope'.split(' ');

/** Schemes of `source`. Source: ignition docs/configuration-v3_1.md and v3_2.md; `gs` came with 3.2.0. */
const SCHEMES: Record<IgnitionSpec, readonly string[]> = {
  '3.1.0': ['http', 'https', 'tftp', 's3', 'data'],
  '3.2.0': ['http', 'https', 'tftp', 's3', 'gs', 'data'],
};

/** Hex digits of the digests that `verification.hash` may name. */
const HASH_LENGTHS: Record<string, number> = { sha512: 128, sha256: 64 };

/**
 * Checks the rules of Ignition's specification that a schema cannot express. Reports every fault, in the order of the config. Pure.
 * Source: ignition config/v3_1 and v3_2, types/*.go and config/validate.
 */
export function validateConfig(config: IgnitionConfig): readonly IgnitionFault[] {
  const spec = config.ignition.version;
  const { files = [], directories = [], links = [] } = config.storage ?? {};
  const units = config.systemd?.units ?? [];
  const nodes = [
    ...directories.map((item, index) => ({ path: item.path, place: `$.storage.directories[${index}]` })),
    ...files.map((item, index) => ({ path: item.path, place: `$.storage.files[${index}]` })),
    ...links.map((item, index) => ({ path: item.path, place: `$.storage.links[${index}]` })),
  ];
  const linkPaths = links.map((link) => link.path);
  return [
    ...nodes.flatMap(({ path, place }) => [...checkPath(path, `${place}.path`), ...checkLinks(path, linkPaths, `${place}.path`)]),
    ...checkDuplicates(nodes.map(({ path, place }) => ({ name: path, place: `${place}.path` }))),
    ...directories.flatMap((item, index) => checkMode(item.mode, `$.storage.directories[${index}].mode`)),
    ...files.flatMap((item, index) => checkFile(item, spec, `$.storage.files[${index}]`)),
    ...units.flatMap((unit, index) => checkUnit(unit, `$.systemd.units[${index}]`)),
    ...checkDuplicates(units.map((unit, index) => ({ name: unit.name, place: `$.systemd.units[${index}].name` }))),
  ];
}

type File = NonNullable<NonNullable<IgnitionConfig['storage']>['files']>[number];

function checkFile(file: File, spec: IgnitionSpec, place: string): readonly IgnitionFault[] {
  const source = file.contents?.source ?? undefined;
  const overwritesNothing = file.overwrite === true && source === undefined;
  return [
    ...checkMode(file.mode, `${place}.mode`),
    ...(overwritesNothing ? [fault(`${place}.overwrite`, 'it is true, but there is no contents.source to write')] : []),
    ...(file.contents === undefined ? [] : checkResource(file.contents, spec, `${place}.contents`)),
    ...(file.append ?? []).flatMap((resource, index) => checkResource(resource, spec, `${place}.append[${index}]`)),
  ];
}

function checkPath(path: string, place: string): readonly IgnitionFault[] {
  if (path === '') return [fault(place, 'it is empty')];
  if (!path.startsWith('/')) return [fault(place, `${quoteInput(path)} is not absolute`)];
  const simple = posix.resolve(path);
  return simple === path ? [] : [fault(place, `${quoteInput(path)} is not in its simplest form; write ${quoteInput(simple)}`)];
}

function checkLinks(path: string, links: readonly string[], place: string): readonly IgnitionFault[] {
  const link = links.find((candidate) => path.startsWith(`${candidate}/`));
  return link === undefined ? [] : [fault(place, `${quoteInput(path)} is below the link ${quoteInput(link)} of the same config`)];
}

function checkDuplicates(entries: readonly { readonly name: string; readonly place: string }[]): readonly IgnitionFault[] {
  return entries.flatMap(({ name, place }, index) => {
    const first = entries.slice(0, index).find((entry) => entry.name === name);
    return first === undefined ? [] : [fault(place, `${quoteInput(name)} is already used at ${first.place}`)];
  });
}

/**
 * JSON has no octal numbers, so a mode meant as octal, such as 755, has another value. Values of 512 and more would set bits (setuid, setgid, sticky)
 * that specifications before 3.4.0 do not support. So decimal 755 is certainly a mistake.
 */
function checkMode(mode: number | null | undefined, place: string): readonly IgnitionFault[] {
  if (mode === undefined || mode === null) return [];
  const octal = mode.toString(8).padStart(4, '0');
  if (mode < 0 || mode > 0o7777) return [fault(place, `${mode} is not between 0 and 4095 (octal 7777)`)];
  if (mode < 0o1000) return [];
  if (/^[0-7]{3}$/.test(String(mode))) {
    const meant = Number.parseInt(String(mode), 8);
    return [fault(place, `${mode} is decimal and means octal ${octal}; write ${meant} for octal 0${mode}`)];
  }
  return [
    {
      kind: 'warning',
      path: place,
      message: `${mode} is octal ${octal}; setuid, setgid and sticky bits are not supported before specification 3.4.0`,
    },
  ];
}

function checkResource(resource: IgnitionResource, spec: IgnitionSpec, place: string): readonly IgnitionFault[] {
  const { source, compression, verification } = resource;
  const badCompression = compression !== undefined && compression !== null && compression !== '' && compression !== 'gzip';
  return [
    ...(source ? checkSource(source, spec, `${place}.source`) : []),
    ...(badCompression ? [fault(`${place}.compression`, `${quoteInput(compression)} is not gzip`)] : []),
    ...(verification?.hash ? checkHash(verification.hash, `${place}.verification.hash`) : []),
  ];
}

function checkSource(source: string, spec: IgnitionSpec, place: string): readonly IgnitionFault[] {
  const scheme = /^([a-z][a-z0-9+.-]*):/.exec(source)?.[1] ?? '';
  if (!SCHEMES[spec].includes(scheme)) {
    return [fault(place, `${shownSource(source)} has no scheme of specification ${spec} (${SCHEMES[spec].join(', ')})`)];
  }
  if (scheme !== 'data') return [];
  const decoded = decodeDataUrl(source);
  return decoded.kind === 'fault'
    ? [
        fault(
          place,
          `the data URL ${quoteInput(source.slice(0, source.indexOf(',') + 1) || 'data:')} cannot be decoded: ${decoded.message}`,
        ),
      ]
    : [];
}

/** A source without possible secrets: user, password and query of an address, or content in place of an address. */
function shownSource(source: string): string {
  const url = URL.parse(source);
  if (url !== null) return quoteInput(`${url.protocol}//${url.host}${url.pathname}`);
  return source.startsWith('/') ? quoteInput(source) : 'it';
}

function checkHash(hash: string, place: string): readonly IgnitionFault[] {
  const dash = hash.indexOf('-');
  const length = HASH_LENGTHS[hash.slice(0, Math.max(dash, 0))];
  const isHash = length !== undefined && hash.length - dash - 1 === length && /^[0-9a-f]+$/i.test(hash.slice(dash + 1));
  return isHash ? [] : [fault(place, `${quoteInput(hash)} is not sha512- with 128 or sha256- with 64 hex digits`)];
}

function checkUnit(unit: IgnitionUnit, place: string): readonly IgnitionFault[] {
  const dropins = unit.dropins ?? [];
  return [
    ...(UNIT_SUFFIXES.includes(posix.extname(unit.name))
      ? []
      : [fault(`${place}.name`, `${quoteInput(unit.name)} does not have the suffix of a unit, such as .service`)]),
    ...checkSections(unit.contents, `${place}.contents`),
    ...(unit.enabled === true && unit.contents && !/^\[Install\]/m.test(unit.contents)
      ? [
          {
            kind: 'warning' as const,
            path: `${place}.contents`,
            message: `${quoteInput(unit.name)} is enabled but has no [Install] section, so nothing starts it`,
          },
        ]
      : []),
    ...dropins.flatMap((dropin, index) => [
      ...(posix.extname(dropin.name) === '.conf'
        ? []
        : [fault(`${place}.dropins[${index}].name`, `${quoteInput(dropin.name)} does not end in .conf`)]),
      ...checkSections(dropin.contents, `${place}.dropins[${index}].contents`),
    ]),
    ...checkDuplicates(dropins.map((dropin, index) => ({ name: dropin.name, place: `${place}.dropins[${index}].name` }))),
  ];
}

/**
 * Finds lines of a unit that are not a section, an option, a comment or a continuation. They are not quoted in the message, because such a line can be
 * part of a secret. Source: systemd.syntax(7).
 */
function checkSections(contents: string | null | undefined, place: string): readonly IgnitionFault[] {
  const lines = (contents ?? '').split('\n');
  return lines.flatMap((line, index) => {
    const isGood = /^\s*(?:$|[#;]|\[[^\]\n]+\]\s*$|[^[\s=][^=]*=)/.test(line) || lines[index - 1]?.endsWith('\\');
    return isGood ? [] : [fault(place, `line ${index + 1} is not a section, an option or a comment`)];
  });
}

function fault(path: string, message: string): IgnitionFault {
  return { kind: 'error', path, message };
}
