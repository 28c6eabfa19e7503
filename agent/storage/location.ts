import { parse } from 'smol-toml';
import * as v from 'valibot';
import { readIfThere } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { messageOf, PrestageError } from '../model/errors.ts';
import type { StorageLocation } from './records.ts';

/** Where engines store images by default. Source: containers-storage.conf(5). */
const DEFAULTS: StorageLocation = { graphroot: '/var/lib/containers/storage', runroot: '/run/containers/storage' };

/** Tried in this order; only the first existing file counts. Source: containers-storage.conf(5). */
const CONFIG_FILES = ['/etc/containers/storage.conf', '/usr/share/containers/storage.conf'] as const;

const configSchema = v.object({
  storage: v.optional(v.object({ driver: v.optional(v.string()), graphroot: v.optional(v.string()), runroot: v.optional(v.string()) }), {}),
});

/**
 * Finds the containers-storage of the engines of this machine: from flags, else from storage.conf, else the defaults.
 * @throws PrestageError ERR_STORAGE if storage.conf cannot be parsed or sets another driver than overlay
 */
export async function locateStorage(host: Host, wanted: Partial<StorageLocation>): Promise<StorageLocation> {
  const { graphroot, runroot } = wanted;
  if (graphroot !== undefined && runroot !== undefined) return { graphroot, runroot };
  const configured = await readConfig(host);
  return {
    isEngineDefault: graphroot === undefined && runroot === undefined && host.root === '/',
    graphroot: graphroot ?? hostPath(host, configured.graphroot ?? DEFAULTS.graphroot),
    runroot: runroot ?? hostPath(host, configured.runroot ?? DEFAULTS.runroot),
  };
}

async function readConfig(host: Host): Promise<Partial<StorageLocation>> {
  const override = host.env.CONTAINERS_STORAGE_CONF;
  for (const path of override === undefined ? CONFIG_FILES.map((file) => hostPath(host, file)) : [override]) {
    const text = await readIfThere(path);
    if (text !== undefined) return parseConfig(text, path);
  }
  return {};
}

function parseConfig(text: string, path: string): Partial<StorageLocation> {
  const { storage } = v.parse(configSchema, tomlOf(text, path));
  if (storage.driver !== undefined && storage.driver !== '' && storage.driver !== 'overlay') {
    throw new PrestageError(
      'ERR_STORAGE',
      `${path} sets the storage driver "${storage.driver}", but only overlay is supported`,
      'Set driver = "overlay" there, or name an overlay storage with --graphroot and --runroot',
    );
  }
  return { ...(storage.graphroot && { graphroot: storage.graphroot }), ...(storage.runroot && { runroot: storage.runroot }) };
}

function tomlOf(text: string, path: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    throw new PrestageError(
      'ERR_STORAGE',
      `${path} is not TOML: ${messageOf(cause)}`,
      'Correct the file, or set --graphroot and --runroot',
      {
        cause,
      },
    );
  }
}
