import * as v from 'valibot';
import { parseAllDocuments } from 'yaml';
import { messageOf, PrestageError } from '../../model/errors.ts';
import { schemaFaults } from '../../model/faults.ts';

/** The needed parts of a file-based catalog. Source: operator-registry, "File-based catalogs" (olm.package, olm.channel, olm.bundle). */
export interface Catalog {
  readonly packages: readonly CatalogPackage[];
  readonly channels: readonly CatalogChannel[];
  readonly bundles: readonly CatalogBundle[];
  /** Documents that cannot be read and may belong to a wanted package. */
  readonly faults: readonly CatalogFault[];
}

/** A document that cannot be read. */
export interface CatalogFault {
  /** Undefined if the document does not name it. */
  readonly package: string | undefined;
  /** The fault, with file and document. */
  readonly message: string;
}

export interface CatalogPackage {
  readonly name: string;
  readonly defaultChannel: string | undefined;
}

export interface CatalogChannel {
  readonly name: string;
  readonly package: string;
  readonly entries: readonly ChannelEntry[];
}

/** A bundle in a channel, and the bundles that it replaces. */
export interface ChannelEntry {
  readonly name: string;
  readonly replaces: string | undefined;
  readonly skips: readonly string[];
  readonly skipRange: string | undefined;
}

export interface CatalogBundle {
  readonly name: string;
  readonly package: string;
  readonly image: string;
  readonly version: string | undefined;
  /** File and document. */
  readonly where: string;
  /** `image` is empty if the document names none. */
  readonly relatedImages: readonly { readonly name: string; readonly image: string }[];
}

const packageSchema = v.object({ schema: v.literal('olm.package'), name: v.string(), defaultChannel: v.nullish(v.string()) });
const channelSchema = v.object({
  schema: v.literal('olm.channel'),
  name: v.string(),
  package: v.string(),
  entries: v.array(
    v.object({
      name: v.string(),
      replaces: v.nullish(v.string()),
      skips: v.nullish(v.array(v.string())),
      skipRange: v.nullish(v.string()),
    }),
  ),
});
const bundleSchema = v.object({
  schema: v.literal('olm.bundle'),
  name: v.string(),
  package: v.string(),
  image: v.string(),
  properties: v.fallback(v.nullish(v.array(v.unknown())), undefined),
  relatedImages: v.nullish(v.array(v.object({ name: v.nullish(v.string()), image: v.nullish(v.string()) }))),
});
const versionSchema = v.object({ type: v.literal('olm.package'), value: v.object({ version: v.string() }) });
const ownerSchema = v.object({ package: v.string() });

/** A catalog file with its path. */
export interface CatalogFile {
  readonly path: string;
  readonly text: string;
}

/**
 * Reads a catalog's files: consecutive JSON documents, or YAML documents. Skips documents of other schemas.
 * Keeps a document that cannot be read as a fault if it belongs to a wanted package or names none.
 * @param wanted names of packages, or an empty text for all: a file that contains none of them is not parsed, since catalogs have hundreds of MB
 * @throws PrestageError ERR_CATALOG for a truncated JSON file
 */
export function parseCatalog(files: readonly CatalogFile[], wanted: readonly string[]): Catalog {
  const documents = files
    .filter((file) => wanted.some((name) => file.text.includes(name)))
    .flatMap((file) => documentsOf(file).map((document, index) => ({ document, where: `${file.path}, document ${index + 1}` })));
  const packages: CatalogPackage[] = [];
  const channels: CatalogChannel[] = [];
  const bundles: CatalogBundle[] = [];
  const faults: CatalogFault[] = [];
  for (const { document, where } of documents) {
    if (document instanceof Error) {
      faults.push({ package: undefined, message: document.message });
      continue;
    }
    const owner = v.safeParse(ownerSchema, document);
    const name = owner.success ? owner.output.package : undefined;
    if (name !== undefined && !wanted.includes(name) && !wanted.includes('')) continue;
    const take = <T>(schema: v.GenericSchema<unknown, T>, keep: (raw: T) => void): void => {
      const parsed = v.safeParse(schema, document);
      if (parsed.success) keep(parsed.output);
      else faults.push({ package: name, message: `${where}: ${schemaFaults(parsed.issues).join('; ')}` });
    };
    const schema = schemaOf(document);
    if (schema === 'olm.package') take(packageSchema, (raw) => packages.push(packageOf(raw)));
    if (schema === 'olm.channel') take(channelSchema, (raw) => channels.push(channelOf(raw)));
    if (schema === 'olm.bundle') take(bundleSchema, (raw) => bundles.push(bundleOf(raw, where)));
  }
  return { packages, channels, bundles, faults };
}

function packageOf({ name, defaultChannel }: v.InferOutput<typeof packageSchema>): CatalogPackage {
  return { name, defaultChannel: defaultChannel ?? undefined };
}

function channelOf(raw: v.InferOutput<typeof channelSchema>): CatalogChannel {
  const entries = raw.entries.map((entry) => ({
    name: entry.name,
    replaces: entry.replaces || undefined,
    skips: entry.skips ?? [],
    skipRange: entry.skipRange || undefined,
  }));
  return { name: raw.name, package: raw.package, entries };
}

function bundleOf(raw: v.InferOutput<typeof bundleSchema>, where: string): CatalogBundle {
  const [version] = (raw.properties ?? []).flatMap((property) => {
    const read = v.safeParse(versionSchema, property);
    return read.success ? [read.output.value.version] : [];
  });
  return {
    name: raw.name,
    package: raw.package,
    image: raw.image,
    version,
    where,
    relatedImages: (raw.relatedImages ?? []).map(({ name, image }) => ({ name: name ?? '', image: image ?? '' })),
  };
}

function schemaOf(document: unknown): string | undefined {
  return typeof document === 'object' && document !== null && 'schema' in document && typeof document.schema === 'string'
    ? document.schema
    : undefined;
}

/** A document that cannot be parsed is returned as an Error. */
function documentsOf(file: CatalogFile): readonly unknown[] {
  if (file.path.endsWith('.json')) return splitJson(file);
  return [...parseAllDocuments(file.text, { logLevel: 'error' })].map((document, index) => {
    try {
      const [error] = document.errors;
      if (error !== undefined) throw error;
      return document.toJS();
    } catch (cause) {
      return new Error(`${file.path}, document ${index + 1}: ${messageOf(cause)}`, { cause });
    }
  });
}

/** Consecutive JSON objects, as `opm render` writes them. Ignores braces in strings. */
function splitJson(file: CatalogFile): readonly unknown[] {
  const { text } = file;
  const documents: unknown[] = [];
  let depth = 0;
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') at = endOfString(text, at);
    else if (character === '{' && depth++ === 0) start = at;
    else if (character === '}' && --depth === 0) documents.push(parseJson(text.slice(start, at + 1), file.path, documents.length + 1));
    if (depth < 0) break;
  }
  if (depth === 0) return documents;
  throw new PrestageError('ERR_CATALOG', `${file.path} is cut off in document ${documents.length + 1}`, 'Fetch the catalog again');
}

function endOfString(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '"') return at;
  }
  return text.length;
}

function parseJson(text: string, path: string, number: number): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    return new Error(`${path}, document ${number}: ${messageOf(cause)}`, { cause });
  }
}
