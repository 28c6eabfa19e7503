import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'smol-toml';
import * as v from 'valibot';
import { isDirectory } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { STORAGE_CONF, STORE_PATH } from '../model/places.ts';

/** Files that engines read; which one depends on the engine. Source: containers-storage.conf(5). */
const STORAGE_FILES = [STORAGE_CONF, '/etc/containers/storage.conf', '/usr/share/containers/storage.conf'] as const;
/** Source: crio.conf(5), `storage_option`; crio.conf.d(5). */
const CRIO_FILE = '/etc/crio/crio.conf';
const CRIO_FOLDER = '/etc/crio/crio.conf.d';

const storageSchema = v.object({ storage: v.object({ options: v.object({ additionalimagestores: v.array(v.string()) }) }) });
const crioSchema = v.object({ crio: v.object({ storage_option: v.array(v.string()) }) });

/** An additional image store, and the configuration that names it. */
interface NamedStore {
  readonly path: string;
  readonly file: string;
}

/**
 * Graphroots of the additional image stores that engines of this node may use: ours, even if it is empty, and others that exist.
 * All configurations count, because engines read different ones. A configuration that cannot be read counts as naming no store.
 */
export async function additionalStores(host: Host): Promise<readonly string[]> {
  const paths = [...new Set((await namedStores(host)).map(({ path }) => path))].filter((path) => !isOurs(host, path));
  const there = await Promise.all(paths.map(isDirectory));
  return [hostPath(host, STORE_PATH), ...paths.filter((_, index) => there[index])];
}

/** The configurations that name our store. Engines that read them fail if its directory is missing. */
export async function filesNamingOurStore(host: Host): Promise<readonly string[]> {
  return [...new Set((await namedStores(host)).filter(({ path }) => isOurs(host, path)).map(({ file }) => file))];
}

function isOurs(host: Host, path: string): boolean {
  return path === STORE_PATH || path === hostPath(host, STORE_PATH);
}

async function namedStores(host: Host): Promise<readonly NamedStore[]> {
  const override = host.env.CONTAINERS_STORAGE_CONF;
  const storageFiles = [...STORAGE_FILES.map((path) => hostPath(host, path)), ...(override ? [override] : [])];
  const crioFolder = hostPath(host, CRIO_FOLDER);
  const dropIns = (await readdir(crioFolder).catch(() => [])).filter((name) => !name.startsWith('.'));
  const crioFiles = [hostPath(host, CRIO_FILE), ...dropIns.map((name) => join(crioFolder, name))];
  const read = async (file: string, storesOf: (toml: unknown) => readonly string[]): Promise<readonly NamedStore[]> =>
    storesOf(await readToml(file)).map((path) => ({ path, file }));
  const found = [...storageFiles.map((file) => read(file, storesOfStorageConf)), ...crioFiles.map((file) => read(file, storesOfCrioConf))];
  return (await Promise.all(found)).flat();
}

/** The stores that a storage.conf names. Pure. */
export function storesOfStorageConf(toml: unknown): readonly string[] {
  const parsed = v.safeParse(storageSchema, toml);
  return parsed.success ? parsed.output.storage.options.additionalimagestores : [];
}

/** The stores that a configuration of CRI-O names: `additionalimagestore=PATH`, also as `overlay.imagestore=PATH`. Pure. */
export function storesOfCrioConf(toml: unknown): readonly string[] {
  const parsed = v.safeParse(crioSchema, toml);
  if (!parsed.success) return [];
  return parsed.output.crio.storage_option.flatMap((option) => {
    const path = /^(?:overlay2?\.)?(?:additional)?imagestore=(.+)$/.exec(option)?.[1];
    return path === undefined ? [] : [path];
  });
}

async function readToml(path: string): Promise<unknown> {
  const text = await readFile(path, 'utf8').catch(() => '');
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}
