import { errorRecord } from '../../model/errors.ts';
import type { Catalog, CatalogPackage } from './catalog.ts';
import { channelHead } from './operators.ts';

/** A package of a catalog, and what `--package NAME` takes of it. */
export interface PackageEntry {
  readonly package: string;
  readonly defaultChannel?: string;
  /** Version at the head of the default channel; the name of the bundle if it states no version. */
  readonly version?: string;
  /** Why there is no version. */
  readonly fault?: string;
}

/** The packages of a catalog, sorted by name, each once. Pure. */
export function listPackages(catalog: Catalog): readonly PackageEntry[] {
  const packages = [...new Map(catalog.packages.map((one) => [one.name, one])).values()];
  return packages.toSorted((a, b) => (a.name < b.name ? -1 : 1)).map((one) => packageEntry(one, catalog));
}

function packageEntry({ name, defaultChannel }: CatalogPackage, catalog: Catalog): PackageEntry {
  if (defaultChannel === undefined) return { package: name, fault: 'it has no default channel' };
  const channel = catalog.channels.find((one) => one.package === name && one.name === defaultChannel);
  if (channel === undefined) return { package: name, defaultChannel, fault: `the catalog has no channel ${defaultChannel} of it` };
  try {
    const head = channelHead(channel, catalog).name;
    const bundle = catalog.bundles.find((one) => one.package === name && one.name === head);
    return { package: name, defaultChannel, version: bundle?.version ?? head };
  } catch (error) {
    return { package: name, defaultChannel, fault: errorRecord(error).message };
  }
}

/** A line for each package, with what `--package` takes in front. Pure. */
export function packagesText(packages: readonly PackageEntry[]): string {
  const rows = packages.map(({ package: name, defaultChannel, version, fault }) => ({
    wanted: defaultChannel === undefined ? name : `${name}:${defaultChannel}`,
    rest: version ?? `(${fault})`,
  }));
  const width = Math.max(0, ...rows.map(({ wanted }) => wanted.length));
  return rows.map(({ wanted, rest }) => `${wanted.padEnd(width)}  ${rest}\n`).join('');
}
