import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ifMissing } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { readConfiguration } from '../host/read-configuration.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { mergeRegistriesD, type RegistriesD } from './registries-d.ts';

/** The files in this directory say where signatures of images are; their order does not matter. Source: containers-registries.d(5). */
export const REGISTRIES_D_DIRECTORY = '/etc/containers/registries.d';
/** If it exists, podman and skopeo read it for root instead. */
const PERSONAL_DIRECTORY = '/root/.config/containers/registries.d';
/** The file of the agent. */
export const REGISTRIES_D_PATH = `${REGISTRIES_D_DIRECTORY}/50-prestage.yaml`;

/** Where engines look for signatures according to the files of others, or why these files cannot be used. */
export type ForeignRegistriesD = { readonly merged: RegistriesD } | { readonly fault: ErrorRecord };

/** Merges the files of others, or says why they cannot be used. */
export function foreignRegistriesD(files: readonly { readonly file: string; readonly text: string }[]): ForeignRegistriesD {
  try {
    return { merged: mergeRegistriesD(files) };
  } catch (error) {
    if (!(error instanceof PrestageError)) throw error;
    return { fault: errorRecord(error) };
  }
}

/** Reads all files except that of the agent. */
export async function readRegistriesD(host: Host): Promise<ForeignRegistriesD> {
  try {
    return { merged: await readDirectory(host, REGISTRIES_D_DIRECTORY, (path) => path !== REGISTRIES_D_PATH) };
  } catch (error) {
    if (!(error instanceof PrestageError)) throw error;
    return { fault: errorRecord(error) };
  }
}

/**
 * Reads the files that the engines of root use now, including that of the agent.
 * @throws PrestageError ERR_REGISTRIES_D, ERR_SYSTEM_FILE
 * @throws NodeJS.ErrnoException if this user may not read a file
 */
export async function readRegistriesDInForce(host: Host): Promise<RegistriesD> {
  const found = await stat(hostPath(host, PERSONAL_DIRECTORY)).catch(ifMissing(() => undefined));
  return await readDirectory(host, found === undefined ? REGISTRIES_D_DIRECTORY : PERSONAL_DIRECTORY);
}

/**
 * Reads where the engines of this user look for signatures. A directory of the user replaces that of the machine.
 * Source: containers-registries.d(5).
 * @throws PrestageError ERR_REGISTRIES_D, ERR_SYSTEM_FILE
 */
export async function readUserRegistriesD(host: Host): Promise<RegistriesD> {
  const { HOME: home = '' } = host.env;
  const own = join(home, '.config/containers/registries.d');
  const directory = home !== '' && existsSync(hostPath(host, own)) ? own : REGISTRIES_D_DIRECTORY;
  return await readDirectory(host, directory, (path) => path !== REGISTRIES_D_PATH);
}

async function readDirectory(host: Host, directory: string, isRead: (path: string) => boolean = () => true): Promise<RegistriesD> {
  const names = await readdir(hostPath(host, directory)).catch(ifMissing(() => []));
  const paths = names
    .filter((name) => name.endsWith('.yaml'))
    .toSorted()
    .map((name) => `${directory}/${name}`)
    .filter(isRead);
  return mergeRegistriesD(await Promise.all(paths.map(async (file) => ({ file, text: (await readConfiguration(host, file)) ?? '' }))));
}

/** The content for the agent's file, or why it cannot or need not be written. */
export type OwnRegistriesD =
  | { readonly kind: 'write'; readonly content: string }
  /** Another file has the keys and enables signatures beside the images. `hasLookaside`: it names the lookaside, too. */
  | { readonly kind: 'there'; readonly file: string; readonly hasLookaside: boolean }
  | { readonly kind: 'refused'; readonly reason: string };

/** Input for the agent's file. */
export interface OwnPlaces {
  /** `host:port` of our registries. */
  readonly addresses: readonly string[];
  /** Base address of the GPG signatures for the images that they serve; undefined if there are none. */
  readonly lookaside: string | undefined;
}

/**
 * Plans the file that makes engines look for signatures beside the images that our registries serve, and in our lookaside. It has exactly one key for
 * each registry. If two files have the same key, every pull fails, so keys of other files are left to them. Pure.
 * @param mark first line of every file of the agent
 */
export function planRegistriesD(places: OwnPlaces, foreign: ForeignRegistriesD, mark: string): OwnRegistriesD {
  const { addresses, lookaside } = places;
  if ('fault' in foreign) return { kind: 'refused', reason: foreign.fault.message };
  const taken = addresses.flatMap((address) => {
    const found = foreign.merged.scopes.get(address);
    return found === undefined ? [] : [{ address, ...found }];
  });
  const [first] = taken;
  if (first === undefined) return { kind: 'write', content: renderRegistriesD(places, mark) };
  const other = taken.find(({ usesAttachments }) => !usesAttachments);
  if (other !== undefined)
    return { kind: 'refused', reason: `${other.file} has the key "${other.address}" without use-sigstore-attachments` };
  if (taken.length === addresses.length) {
    return { kind: 'there', file: first.file, hasLookaside: taken.every((one) => one.lookaside === lookaside) };
  }
  return {
    kind: 'write',
    content: renderRegistriesD(
      { addresses: addresses.filter((address) => !taken.some((one) => one.address === address)), lookaside },
      mark,
    ),
  };
}

/** The same places give the same bytes. Pure. */
function renderRegistriesD({ addresses, lookaside }: OwnPlaces, mark: string): string {
  const beside = lookaside === undefined ? '' : `    lookaside: ${JSON.stringify(lookaside)}\n`;
  const entries = addresses.map((address) => `  ${JSON.stringify(address)}:\n    use-sigstore-attachments: true\n${beside}`);
  return `${mark}\n# Signatures lie beside the images that the registries of prestage-agent serve.\ndocker:\n${entries.join('')}`;
}
