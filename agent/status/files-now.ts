import { ETC_STORAGE_CONF } from '../engine/engine-facts.ts';
import { withoutRewrite } from '../engine/registries-marks.ts';
import { REGISTRIES_CONF } from '../engine/registries-view.ts';
import { listedStores } from '../engine/storage-conf.ts';
import type { Host } from '../host/host.ts';
import { readConfiguration } from '../host/read-configuration.ts';
import { digestOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { STORAGE_CONF, STORE_PATH } from '../model/places.ts';
import { isMarked } from '../system-files/file.ts';
import { readSetup, type WrittenFile } from '../system-files/record.ts';
import type { FileFault } from './facts.ts';

/** For files that are not the agent's: tells whether the agent's addition is still in the text. */
const EDITED: Readonly<Record<string, (text: string) => boolean>> = {
  [ETC_STORAGE_CONF]: namesStore,
  [REGISTRIES_CONF]: (text) => withoutRewrite(text) !== text,
};

/**
 * Finds files that point engines to the store and the mirrors, and that are not as the agent wrote them. Of the files in /run only storage.conf
 * counts, because the set of units with a drop-in differs from boot to boot.
 * @throws NodeJS.ErrnoException if this user may not read the record or a file
 */
export async function changedFiles(host: Host): Promise<readonly FileFault[]> {
  const setup = await readSetup(host);
  if (setup === undefined) return [];
  const isTold = namesStore((await readConfiguration(host, ETC_STORAGE_CONF)) ?? '');
  const counts = (path: string): boolean => (path === STORAGE_CONF ? !isTold : !path.startsWith('/run/'));
  const digests = new Map(setup.written.map(({ path, digest }) => [path, digest]));
  const added = setup.added
    .filter(counts)
    .map(async (path) => faultOf(path, addedFault(await readConfiguration(host, path), digests.get(path))));
  const edited = setup.edited.map(async (path) => faultOf(path, editedFault(path, await readConfiguration(host, path))));
  return (await Promise.all([...added, ...edited])).flat();
}

function faultOf(path: string, fault: FileFault['fault'] | undefined): readonly FileFault[] {
  return fault === undefined ? [] : [{ path, fault, about: aboutOf(path) }];
}

function addedFault(text: string | undefined, digest: WrittenFile['digest']): FileFault['fault'] | undefined {
  if (text === undefined) return 'gone';
  // Older agents recorded no digests.
  return (digest === undefined ? isMarked(text) : digestOf(text) === digest) ? undefined : 'changed';
}

function editedFault(path: string, text: string | undefined): FileFault['fault'] | undefined {
  if (text === undefined) return 'gone';
  return (EDITED[path]?.(text) ?? true) ? undefined : 'untold';
}

function aboutOf(path: string): FileFault['about'] {
  return path === REGISTRIES_CONF || /^\/etc\/containers\/(?:registries\.conf|registries|certs)\.d\//.test(path) ? 'mirrors' : 'store';
}

function namesStore(text: string): boolean {
  try {
    return listedStores(text).includes(STORE_PATH);
  } catch (error) {
    // Engines cannot read a file that cannot be parsed.
    if (error instanceof PrestageError) return false;
    throw error;
  }
}
