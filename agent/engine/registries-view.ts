import { readdir } from 'node:fs/promises';
import { ifMissing } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { readConfiguration } from '../host/read-configuration.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { parseRegistries, type RegistriesFile, type RegistryEntry } from './registries-file.ts';
import { withoutRewrite } from './registries-marks.ts';

/** The file that belongs to the machine's owner or, in a cluster, to the Machine Config Operator. */
export const REGISTRIES_CONF = '/etc/containers/registries.conf';
/** Files in here are read after it, in the order of their names. */
export const REGISTRIES_DIRECTORY = '/etc/containers/registries.conf.d';
/** The one that is ours. */
export const DROP_IN_NAME = '50-prestage.conf';
/** If it exists, podman does not read /etc for root. */
const PERSONAL_CONF = '/root/.config/containers/registries.conf';

/** What the engines of a node would do without the agent. */
export interface RegistriesView {
  /** One of each prefix, sorted by it. */
  readonly entries: readonly RegistryEntry[];
  readonly globals: Readonly<Record<string, unknown>>;
  /** The file that podman reads for root instead of those in /etc, if there is one. */
  readonly shadowedBy?: string;
}

/** The view of a node on which nothing is configured. */
export const emptyView: RegistriesView = { entries: [], globals: {} };

/**
 * Reads registries.conf and its drop-ins, without the agent's own entries. Missing files are skipped.
 * @throws PrestageError ERR_REGISTRIES with the faults of all files, ERR_SYSTEM_FILE if a path is not a plain file
 */
export async function readRegistries(host: Host): Promise<RegistriesView> {
  const [view, personal] = await Promise.all([readPublicRegistries(host), readConfiguration(host, PERSONAL_CONF)]);
  return personal === undefined ? view : { ...view, shadowedBy: PERSONAL_CONF };
}

/** Like readRegistries, but without root's home, which other users may not read. */
export async function readPublicRegistries(host: Host): Promise<RegistriesView> {
  return await readBelowEtc(host, { isOurs: (name) => name === DROP_IN_NAME, shown: withoutRewrite });
}

/**
 * The configuration as engines read it now, with the agent's own entries.
 * @throws like readRegistries
 */
export async function readRegistriesInForce(host: Host): Promise<RegistriesView> {
  const [view, personal] = await Promise.all([
    readBelowEtc(host, { isOurs: () => false, shown: (text) => text }),
    readConfiguration(host, PERSONAL_CONF),
  ]);
  return personal === undefined ? view : { ...view, shadowedBy: PERSONAL_CONF };
}

/**
 * The configuration as skopeo reads it for the user who runs it: a file of the user replaces those of the machine.
 * @throws like readRegistries
 */
export async function readUserRegistries(host: Host): Promise<RegistriesView> {
  const { HOME: home = '' } = host.env;
  const own = `${home}/.config/containers/registries.conf`;
  const text = home === '' ? undefined : await readConfiguration(host, own);
  if (text !== undefined) return mergeRegistries(parseAll([{ file: own, text }]));
  return await readBelowEtc(host, { isOurs: () => false, shown: (all) => all });
}

interface ReadOptions {
  /** Drop-ins that are skipped. */
  readonly isOurs: (name: string) => boolean;
  /** The part of the text of registries.conf that counts. */
  readonly shown: (text: string) => string;
}

async function readBelowEtc(host: Host, { isOurs, shown }: ReadOptions): Promise<RegistriesView> {
  const [all, main] = await Promise.all([dropInNames(host), readConfiguration(host, REGISTRIES_CONF)]);
  const names = all.filter((name) => !isOurs(name));
  const dropIns = await Promise.all(names.map((name) => readConfiguration(host, `${REGISTRIES_DIRECTORY}/${name}`)));
  const texts = [
    { file: REGISTRIES_CONF, text: main === undefined ? undefined : shown(main) },
    ...names.map((name, index) => ({ file: `${REGISTRIES_DIRECTORY}/${name}`, text: dropIns[index] })),
  ];
  return mergeRegistries(parseAll(texts.flatMap(({ file, text }) => (text === undefined ? [] : [{ file, text }]))));
}

/**
 * Merges files like an engine: an entry completely replaces an earlier one of the same prefix, a global setting replaces an earlier one, and aliases are
 * replaced one by one. Source: containers/image, pkg/sysregistriesv2, updateWithConfigurationFrom.
 */
export function mergeRegistries(files: readonly RegistriesFile[]): RegistriesView {
  const entries = new Map(files.flatMap((file) => file.entries).map((entry) => [entry.prefix, entry]));
  const globals: Record<string, unknown> = Object.assign({}, ...files.map((file) => file.globals));
  const aliases: Record<string, unknown> = Object.assign({}, ...files.map((file) => file.globals.aliases));
  return {
    entries: [...entries.values()].toSorted((a, b) => (a.prefix < b.prefix ? -1 : 1)),
    globals: { ...globals, ...(Object.keys(aliases).length > 0 && { aliases }) },
  };
}

function parseAll(texts: readonly { readonly file: string; readonly text: string }[]): readonly RegistriesFile[] {
  const faults: PrestageError[] = [];
  const files = texts.flatMap(({ file, text }) => {
    try {
      return [parseRegistries(text, file)];
    } catch (error) {
      if (!(error instanceof PrestageError)) throw error;
      faults.push(error);
      return [];
    }
  });
  const [first, ...more] = faults;
  if (first === undefined) return files;
  if (more.length === 0) throw first;
  throw new PrestageError('ERR_REGISTRIES', faults.map((fault) => fault.message).join('\n'), errorRecord(first).remedy);
}

async function dropInNames(host: Host): Promise<readonly string[]> {
  const entries = await readdir(hostPath(host, REGISTRIES_DIRECTORY), { withFileTypes: true }).catch(ifMissing(() => []));
  const names = entries.filter((entry) => !entry.isDirectory() && entry.name.endsWith('.conf')).map((entry) => entry.name);
  return names.toSorted();
}
