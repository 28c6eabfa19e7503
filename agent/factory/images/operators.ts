import { satisfies, valid } from 'semver';
import { PrestageError } from '../../model/errors.ts';
import { listFaults } from '../../model/faults.ts';
import { readReference } from '../../model/reference.ts';
import type { Catalog, CatalogBundle, CatalogChannel, ChannelEntry } from './catalog.ts';
import type { NamedImage } from './classification.ts';

/** One wanted operator: `NAME`, `NAME:CHANNEL` or `NAME:CHANNEL@VERSION`. */
export interface WantedPackage {
  readonly name: string;
  /** The default channel if left out. */
  readonly channel: string | undefined;
  /** The head of the channel if left out. */
  readonly version: string | undefined;
}

/** @throws PrestageError ERR_USAGE */
export function parseWantedPackage(text: string): WantedPackage {
  const found = /^([A-Za-z0-9._-]+)(?::([A-Za-z0-9._-]+)(?:@([A-Za-z0-9._+-]+))?)?$/.exec(text);
  if (found?.[1] === undefined)
    throw new PrestageError('ERR_USAGE', `"${text}" does not name a package`, 'Write it as NAME, NAME:CHANNEL or NAME:CHANNEL@VERSION');
  return { name: found[1], channel: found[2], version: found[3] };
}

/** The images that an operator needs: its bundle image and the related images. */
export interface OperatorImages {
  readonly package: string;
  readonly channel: string;
  readonly bundle: string;
  readonly images: readonly NamedImage[];
  /** Possible gaps: related images without a reference, and documents that cannot be read. */
  readonly notices: readonly string[];
}

/**
 * The images of one operator. Ignores unreadable parts of other operators and other versions. Pure.
 * @throws PrestageError ERR_OPERATOR with package, channel and the alternatives; ERR_CATALOG for unreadable parts of that operator
 */
export function operatorImages(catalog: Catalog, wanted: WantedPackage): OperatorImages {
  const unread = catalog.faults
    .filter((fault) => fault.package === undefined || fault.package === wanted.name)
    .map((fault) => fault.message);
  try {
    const found = findImages(catalog, wanted);
    return { ...found, notices: [...found.notices, ...unread.map((fault) => `${fault}; the document is skipped`)] };
  } catch (error) {
    if (unread.length === 0 || !(error instanceof PrestageError) || error.code !== 'ERR_OPERATOR') throw error;
    throw broken(`${error.message}; it may be in a document that cannot be read`, unread);
  }
}

function findImages(catalog: Catalog, wanted: WantedPackage): OperatorImages {
  const channel = findChannel(catalog, wanted);
  const entry = wanted.version === undefined ? channelHead(channel, catalog) : entryOfVersion(channel, wanted.version, catalog);
  const bundle = catalog.bundles.find((candidate) => candidate.package === channel.package && candidate.name === entry.name);
  if (bundle === undefined)
    throw refused(
      `package ${channel.package}, channel ${channel.name}: the catalog has no bundle ${entry.name}`,
      'Check the catalog with: opm validate',
    );
  const all = [
    { reference: bundle.image, component: bundle.name, place: 'image' },
    ...bundle.relatedImages.map(({ name, image }, index) => ({
      reference: image,
      component: name || undefined,
      place: `relatedImages.${index}${name === '' ? '' : ` (${name})`}`,
    })),
  ];
  const faults = all.flatMap(({ reference, place }) => {
    const read = reference === '' ? undefined : readReference(reference);
    return typeof read === 'string' ? [`${bundle.where}, bundle ${bundle.name}, ${place}: ${read}`] : [];
  });
  if (faults.length > 0) throw broken(`${bundle.where}, bundle ${bundle.name} names images that cannot be pulled`, faults);
  const named = all.filter(({ reference }) => reference !== '').map(({ reference, component }) => ({ reference, component }));
  return {
    package: channel.package,
    channel: channel.name,
    bundle: bundle.name,
    images: [...new Map(named.map((image) => [image.reference, image])).values()],
    notices: all
      .filter(({ reference }) => reference === '')
      .map(({ place }) => `${bundle.where}, bundle ${bundle.name}, ${place}: names no image, so none is listed`),
  };
}

function broken(heading: string, faults: readonly string[]): PrestageError {
  return new PrestageError('ERR_CATALOG', listFaults(heading, faults), 'Check the catalog with: opm validate');
}

/**
 * The entry that nothing replaces or skips. Source: OLM, "Operator upgrade graph": `replaces`, `skips`, and `skipRange` over bundle versions.
 * @throws PrestageError ERR_OPERATOR if there is none (a cycle) or more than one
 */
export function channelHead(channel: CatalogChannel, catalog: Pick<Catalog, 'bundles'>): ChannelEntry {
  const versions = versionsOf(channel, catalog);
  const passed = new Set(
    channel.entries.flatMap((entry) => [
      ...(entry.replaces === undefined ? [] : [entry.replaces]),
      ...entry.skips,
      ...skippedByRange(entry, channel, versions),
    ]),
  );
  const heads = channel.entries.filter((entry) => !passed.has(entry.name));
  const [head, ...others] = heads;
  if (head !== undefined && others.length === 0) return head;
  const where = `package ${channel.package}, channel ${channel.name}`;
  if (head === undefined)
    throw refused(
      `${where} has no head: each of its ${channel.entries.length} entries is replaced by another`,
      'Name a version: NAME:CHANNEL@VERSION',
    );
  throw refused(
    `${where} has ${heads.length} heads: ${heads.map((entry) => entry.name).join(', ')}`,
    'Name a version: NAME:CHANNEL@VERSION',
  );
}

/** Entries in the range of another entry; an entry does not skip itself. */
function skippedByRange(entry: ChannelEntry, channel: CatalogChannel, versions: ReadonlyMap<string, string>): readonly string[] {
  const { skipRange } = entry;
  if (skipRange === undefined) return [];
  return channel.entries
    .filter((other) => other !== entry && satisfies(versions.get(other.name) ?? '', skipRange, { includePrerelease: true }))
    .map((other) => other.name);
}

function versionsOf(channel: CatalogChannel, catalog: Pick<Catalog, 'bundles'>): ReadonlyMap<string, string> {
  const ofPackage = catalog.bundles.filter((bundle) => bundle.package === channel.package);
  return new Map(
    ofPackage.flatMap((bundle) =>
      bundle.version !== undefined && valid(bundle.version) !== null ? [[bundle.name, bundle.version] as const] : [],
    ),
  );
}

function entryOfVersion(channel: CatalogChannel, version: string, catalog: Catalog): ChannelEntry {
  const isMeant = (bundle: CatalogBundle | undefined, entry: ChannelEntry): boolean =>
    bundle?.version === version || entry.name === version || entry.name.endsWith(`.v${version}`);
  const bundles = new Map(catalog.bundles.filter((bundle) => bundle.package === channel.package).map((bundle) => [bundle.name, bundle]));
  const found = channel.entries.find((entry) => isMeant(bundles.get(entry.name), entry));
  if (found !== undefined) return found;
  const existing = channel.entries.map((entry) => bundles.get(entry.name)?.version ?? entry.name);
  throw refused(
    `package ${channel.package}, channel ${channel.name} has no version ${version}; it has: ${shorten(existing)}`,
    'Name one of these versions',
  );
}

function findChannel(catalog: Catalog, wanted: WantedPackage): CatalogChannel {
  const channels = catalog.channels.filter((channel) => channel.package === wanted.name);
  const found = catalog.packages.find((candidate) => candidate.name === wanted.name);
  if (found === undefined && channels.length === 0) {
    throw refused(
      `the catalog has no package ${wanted.name}; it has: ${shorten(catalog.packages.map((candidate) => candidate.name))}`,
      'Name one of these packages',
    );
  }
  const name = wanted.channel ?? found?.defaultChannel;
  const channel = channels.find((candidate) => candidate.name === name);
  if (channel !== undefined) return channel;
  throw refused(
    `package ${wanted.name} has no ${name === undefined ? 'default channel' : `channel ${name}`}; it has: ${shorten(channels.map((candidate) => candidate.name))}`,
    'Name one of these channels: NAME:CHANNEL',
  );
}

function shorten(names: readonly string[]): string {
  const shown = names.slice(0, 20).join(', ') || 'none';
  return names.length > 20 ? `${shown} and ${names.length - 20} more` : shown;
}

function refused(message: string, remedy: string): PrestageError {
  return new PrestageError('ERR_OPERATOR', message, remedy);
}
