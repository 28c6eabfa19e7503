import { parse, TomlError } from 'smol-toml';
import * as v from 'valibot';
import { PrestageError } from '../model/errors.ts';
import { listFaults, quoteInput, schemaFaults } from '../model/faults.ts';

/** A `[[registry.mirror]]`. Source for this file: containers-registries.conf(5), version 2, and containers/image, pkg/sysregistriesv2. */
export interface MirrorEntry {
  /** Host, or host and path, without a slash at the end. */
  readonly location: string;
  readonly insecure: boolean;
  /** `all`, `digest-only` or `tag-only`; `all` if left out. */
  readonly pullFromMirror?: string;
  /** Keys that the agent does not know, as TOML values. */
  readonly extra: Readonly<Record<string, unknown>>;
}

/** A `[[registry]]`: what an engine does with the images whose names begin with its prefix. */
export interface RegistryEntry {
  /** Host, namespace, repository or image; or `*.` and a domain. */
  readonly prefix: string;
  /** Replaces the prefix when the source is asked. Empty only for a wildcard: then the image's own name is used. */
  readonly location: string;
  /** Of the source; each mirror has its own. */
  readonly insecure: boolean;
  /** The source is never asked; mirrors are. */
  readonly blocked: boolean;
  readonly mirrorByDigestOnly: boolean;
  /** In the order in which they are asked. */
  readonly mirrors: readonly MirrorEntry[];
  readonly extra: Readonly<Record<string, unknown>>;
  /** The file that it is in, as a path of the node. */
  readonly file: string;
}

/** One registries.conf. */
export interface RegistriesFile {
  /** In the order of the file. */
  readonly entries: readonly RegistryEntry[];
  /** Everything but the `[[registry]]` tables. */
  readonly globals: Readonly<Record<string, unknown>>;
}

const place = v.pipe(
  v.string(),
  v.transform((text) => text.replace(/\/+$/, '')),
);
const given = v.pipe(place, v.nonEmpty('is empty'));
const flag = v.optional(v.boolean(), false);
const mirrorSchema = v.looseObject({ location: given, insecure: flag, 'pull-from-mirror': v.exactOptional(v.string()) });
const registrySchema = v.pipe(
  v.looseObject({
    prefix: v.optional(place, ''),
    location: v.optional(place, ''),
    insecure: flag,
    blocked: flag,
    'mirror-by-digest-only': flag,
    mirror: v.optional(v.array(mirrorSchema), []),
  }),
  v.check(({ prefix, location }) => location !== '' || prefix.startsWith('*.'), 'has no location'),
);
const old = v.optional(v.looseObject({ registries: v.optional(v.array(v.unknown()), []) }), { registries: [] });
const fileSchema = v.looseObject({
  registry: v.optional(v.array(registrySchema), []),
  registries: v.exactOptional(v.looseObject({ search: old, insecure: old, block: old })),
});

/**
 * Reads the text of a registries.conf in version 2 of the format.
 * @param file its path on the node
 * @throws PrestageError ERR_REGISTRIES with every fault
 */
export function parseRegistries(text: string, file: string): RegistriesFile {
  const document = v.safeParse(fileSchema, tomlOf(text, file));
  if (!document.success) throw unreadable(file, schemaFaults(document.issues));
  const { registry, ...globals } = document.output;
  const { search, insecure, block } = globals.registries ?? {};
  if ([search, insecure, block].some((list) => list !== undefined && list.registries.length > 0)) throw versionOne(file);
  return { entries: registry.map((table) => entryOf(table, file)), globals };
}

function entryOf(table: v.InferOutput<typeof registrySchema>, file: string): RegistryEntry {
  const { prefix, location, insecure, blocked, 'mirror-by-digest-only': mirrorByDigestOnly, mirror, ...extra } = table;
  return { prefix: prefix || location, location, insecure, blocked, mirrorByDigestOnly, mirrors: mirror.map(mirrorOf), extra, file };
}

function mirrorOf(table: v.InferOutput<typeof mirrorSchema>): MirrorEntry {
  const { location, insecure, 'pull-from-mirror': pullFromMirror, ...extra } = table;
  return { location, insecure, ...(pullFromMirror !== undefined && { pullFromMirror }), extra };
}

function tomlOf(text: string, file: string): unknown {
  try {
    return parse(text, { integersAsBigInt: 'asNeeded' });
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [what = ''] = error.message.split('\n');
    throw unreadable(`${file}:${error.line}:${error.column}`, [quoteInput(what)]);
  }
}

function unreadable(where: string, faults: readonly string[]): PrestageError {
  const message = listFaults(where, faults);
  return new PrestageError(
    'ERR_REGISTRIES',
    faults.length === 1 ? `${where}: ${message}` : message,
    'Correct the file, which the engines of this node cannot read either; see containers-registries.conf(5)',
  );
}

function versionOne(file: string): PrestageError {
  return new PrestageError(
    'ERR_REGISTRIES',
    `${file} is written in version 1 of its format, which has no mirrors`,
    'Convert it to version 2, with [[registry]] tables and unqualified-search-registries; see containers-registries.conf(5)',
  );
}
