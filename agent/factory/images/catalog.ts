import * as v from 'valibot';
import { parseAllDocuments } from 'yaml';
import { messageOf, PrestageError } from '../../model/errors.ts';
import { schemaFaults } from '../../model/faults.ts';

/** What is needed of a file-based catalog. Source: operator-registry, "File-based catalogs" (olm.package, olm.channel, olm.bundle). */
export interface Catalog {
  readonly packages: readonly CatalogPackage[];
  readonly channels: readonly CatalogChannel[];
  readonly bundles: readonly CatalogBundle[];
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

/** A bundle in a channel, and which ones it comes after. */
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
  readonly relatedImages: readonly { readonly name: string; readonly image: string }[];
}

const packageSchema = v.object({ schema: v.literal('olm.package'), name: v.string(), defaultChannel: v.optional(v.string()) });
const channelSchema = v.object({
  schema: v.literal('olm.channel'),
  name: v.string(),
  package: v.string(),
  entries: v.array(
    v.object({
      name: v.string(),
      replaces: v.optional(v.string()),
      skips: v.nullish(v.array(v.string())),
      skipRange: v.optional(v.string()),
    }),
  ),
});
const bundleSchema = v.object({
  schema: v.literal('olm.bundle'),
  name: v.string(),
  package: v.string(),
  image: v.string(),
  properties: v.nullish(v.array(v.object({ type: v.string(), value: v.unknown() }))),
  relatedImages: v.nullish(v.array(v.object({ name: v.optional(v.string(), ''), image: v.string() }))),
});
const versionSchema = v.object({ version: v.string() });

/** A catalog file with its path. */
export interface CatalogFile {
  readonly path: string;
  readonly text: string;
}

/**
 * Reads a catalog's files: JSON documents one after another, or YAML documents. Documents of other schemas are passed over.
 * @param wanted packages that matter: a file that names none of them is not parsed, since catalogs have hundreds of MB
 * @throws PrestageError ERR_CATALOG naming file and document
 */
export function parseCatalog(files: readonly CatalogFile[], wanted: readonly string[]): Catalog {
  const documents = files
    .filter((file) => wanted.some((name) => file.text.includes(name)))
    .flatMap((file) => documentsOf(file).map((document, index) => ({ document, where: `${file.path}, document ${index + 1}` })));
  const packages: CatalogPackage[] = [];
  const channels: CatalogChannel[] = [];
  const bundles: CatalogBundle[] = [];
  for (const { document, where } of documents) {
    const schema = schemaOf(document);
    if (schema === 'olm.package') packages.push(packageOf(checked(packageSchema, document, where)));
    if (schema === 'olm.channel') channels.push(channelOf(checked(channelSchema, document, where)));
    if (schema === 'olm.bundle') bundles.push(bundleOf(checked(bundleSchema, document, where)));
  }
  return { packages, channels, bundles };
}

function packageOf({ name, defaultChannel }: v.InferOutput<typeof packageSchema>): CatalogPackage {
  return { name, defaultChannel };
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

function bundleOf(raw: v.InferOutput<typeof bundleSchema>): CatalogBundle {
  const property = raw.properties?.find((one) => one.type === 'olm.package');
  const version = v.safeParse(versionSchema, property?.value);
  return {
    name: raw.name,
    package: raw.package,
    image: raw.image,
    version: version.success ? version.output.version : undefined,
    relatedImages: raw.relatedImages ?? [],
  };
}

function schemaOf(document: unknown): string | undefined {
  return typeof document === 'object' && document !== null && 'schema' in document && typeof document.schema === 'string'
    ? document.schema
    : undefined;
}

function checked<T>(schema: v.GenericSchema<unknown, T>, document: unknown, where: string): T {
  const parsed = v.safeParse(schema, document);
  if (parsed.success) return parsed.output;
  const faults = schemaFaults(parsed.issues);
  throw new PrestageError('ERR_CATALOG', `${where}: ${faults.join('; ')}`, 'Check the catalog with: opm validate');
}

function documentsOf(file: CatalogFile): readonly unknown[] {
  if (file.path.endsWith('.json')) return splitJson(file);
  return [...parseAllDocuments(file.text, { logLevel: 'error' })].map((document, index) => {
    try {
      const [error] = document.errors;
      if (error !== undefined) throw error;
      return document.toJS();
    } catch (cause) {
      throw new PrestageError(
        'ERR_CATALOG',
        `${file.path}, document ${index + 1}: ${messageOf(cause)}`,
        'Check the catalog with: opm validate',
        { cause },
      );
    }
  });
}

/** JSON objects one after another, as `opm render` writes them. Braces in strings do not count. */
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
  throw new PrestageError(
    'ERR_CATALOG',
    `${file.path}: document ${documents.length + 1} has no end`,
    'Fetch the catalog again: the file is cut off',
  );
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
    throw new PrestageError('ERR_CATALOG', `${path}, document ${number}: ${messageOf(cause)}`, 'Check the catalog with: opm validate', {
      cause,
    });
  }
}
