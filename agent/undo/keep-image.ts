import { existsSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, rename, rm, rmdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { syncDirectory, writeAtomic } from '../host/atomic.ts';
import { howEnded, quote } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import { removeTree } from '../host/remove-tree.ts';
import { type Digest, digestOf, hexOf, isDigest } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { STORE_PATH } from '../model/places.ts';
import { parseReference } from '../model/reference.ts';
import { readImageRecords, readLayerRecords, type StorageLocation } from '../storage/records.ts';
import { KEEP_PATH, KEPT_NAME, type KeptImage } from './keep-plan.ts';

/** The only version of the format. Source: containers/image, directory/directory_transport.go. */
const DIR_VERSION = 'Directory Transport Version: 1.1\n';

/**
 * Copies an image out of the store image into the main store, with its id, its digests and its names, so that its containers keep running, and can be
 * started again, when the store image is gone. A copy from containers-storage does not keep the digests, because its layers are unpacked. So there are
 * two copies:
 *
 * 1. the layers: the image is copied to `dir:`, and from there into the main store alone, under a name of our own. Its id and the ids of its layers
 *    stay the same, because they are made of unpacked bytes; its manifest becomes another one.
 * 2. the manifest: it and the config are copied unchanged into the main store combined with the store image, in which skopeo finds each layer by its
 *    packed digest; the main store has a layer of the same id by now, and that one is used.
 *
 * Each container directory in the main store names the layers below it by short links, which are random in each store: so the main store also gets the
 * links of the store image.
 * @throws PrestageError ERR_KEEP_IMAGE
 */
export async function keepImage(host: Host, location: StorageLocation, image: KeptImage): Promise<void> {
  const work = hostPath(host, join(KEEP_PATH, image.id));
  const { graphroot, runroot } = location;
  const store = hostPath(host, STORE_PATH);
  const alone = `containers-storage:[overlay@${graphroot}+${runroot}]`;
  const together = `containers-storage:[overlay@${graphroot}+${runroot}:overlay.imagestore=${store}]`;
  const conf = join(work, 'storage.conf');
  const run = async (program: string, args: readonly string[]): Promise<void> => {
    const result = await host.exec(program, args, { env: { CONTAINERS_STORAGE_CONF: conf } });
    if (result.exitCode !== 0) throw notKept(image, `${program} ${howEnded(result)}: ${quote(result.stderr)}`);
  };
  const copy = async (flags: readonly string[], from: string, to: string): Promise<void> =>
    await run('skopeo', ['--insecure-policy', 'copy', '--quiet', ...flags, from, to]);

  const manifests = await saveManifests(join(work, 'manifests'), image, [store, graphroot]);
  await writeAtomic(conf, storageConf(location));
  const layers = join(work, 'layers');
  const temporary = `${KEPT_NAME}${image.id.slice(0, 12)}`;
  await removeTree(layers);
  await copy([], `${together}@${image.id}`, `dir:${layers}`);
  await copy([], `dir:${layers}`, `${alone}${temporary}`);
  await removeTree(layers);
  for (const name of image.names.length > 0 ? image.names : [temporary]) {
    await copy(['--preserve-digests'], `dir:${manifests.get(digestIn(name)) ?? manifests.get('') ?? ''}`, `${together}${name}`);
  }
  const roots = location.isEngineDefault ? [] : ['--root', graphroot, '--runroot', runroot, '--storage-driver', 'overlay'];
  if (image.names.length > 0) await run('podman', [...roots, 'untag', image.id, temporary]);
  await linkLayers({ graphroot, store }, image);
  await assertKept(location, image);
  await removeTree(work);
  await rmdir(hostPath(host, KEEP_PATH)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOTEMPTY') throw error;
  });
}

function notKept({ id, names, containers }: KeptImage, why: string): PrestageError {
  return new PrestageError(
    'ERR_KEEP_IMAGE',
    `${names[0] ?? id}, which ${containers.join(', ')} uses, could not be copied out of the store image: ${why}`,
    'Free space below the graphroot, or stop the container; then run the command again',
  );
}

function storageConf({ graphroot, runroot }: StorageLocation): string {
  return `[storage]\ndriver = "overlay"\ngraphroot = ${JSON.stringify(graphroot)}\nrunroot = ${JSON.stringify(runroot)}\n`;
}

/**
 * Saves manifest, config and lists of an image as `dir:` layouts without layers, before the first copy changes them. Keeps what an interrupted release has
 * saved.
 * @returns layouts by the digest of their top manifest, and under '' the one for names without a digest: that of the list if there is one
 */
async function saveManifests(work: string, image: KeptImage, graphroots: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const original = join(work, 'original');
  if (!existsSync(original)) {
    const from = await directoryOf(image, graphroots);
    if (from === undefined) throw notKept(image, 'its manifest is in no store');
    const files = (await readdir(from)).filter((name) => name === 'manifest' || /^(manifest-)?sha256:/.test(keyOf(name)));
    const saving = `${original}.partial`;
    await removeTree(saving);
    await mkdir(saving, { recursive: true });
    for (const name of files) await writeAtomic(join(saving, name), await readFile(join(from, name)));
    await rename(saving, original);
    await syncDirectory(work);
  }
  const manifest = await readFile(join(original, 'manifest'));
  const names = await readdir(original);
  const digests = names.flatMap((name): Digest[] => {
    const digest = keyOf(name).replace(/^manifest-/, '');
    return keyOf(name).startsWith('manifest-') && isDigest(digest) ? [digest] : [];
  });
  const own = digestOf(manifest);
  const layouts = new Map<string, string>();
  for (const digest of new Set([own, ...digests])) {
    const layout = join(work, hexOf(digest));
    await removeTree(layout);
    await mkdir(layout, { recursive: true });
    await writeAtomic(join(layout, 'version'), DIR_VERSION);
    await copyFile(join(original, digest === own ? 'manifest' : fileOf(`manifest-${digest}`)), join(layout, 'manifest.json'));
    if (digest !== own) await copyFile(join(original, 'manifest'), join(layout, `${hexOf(own)}.manifest.json`));
    await copyFile(join(original, fileOf(`sha256:${image.id}`)), join(layout, image.id));
    layouts.set(digest, layout);
  }
  const list = digests.find((digest) => digest !== own);
  return layouts.set('', layouts.get(list ?? own) ?? '');
}

/** Files of big data are named by their key if it is plain, otherwise by `=` and its base64. Source: containers/storage, utils.go, makeBigDataBaseName. */
function fileOf(key: string): string {
  return /^[0-9a-z]+$/.test(key) ? key : `=${Buffer.from(key).toString('base64')}`;
}

function keyOf(file: string): string {
  return file.startsWith('=') ? Buffer.from(file.slice(1), 'base64').toString('utf8') : file;
}

function digestIn(name: string): string {
  return parseReference(name).digest ?? '';
}

/** Durable: a container that is started after a power cut needs them. */
async function linkLayers(
  { graphroot, store }: { readonly graphroot: string; readonly store: string },
  { layers }: KeptImage,
): Promise<void> {
  const links = join(graphroot, 'overlay/l');
  for (const layer of layers) {
    const name = await readFile(join(store, 'overlay', layer, 'link'), 'utf8');
    if (existsSync(join(links, name))) continue;
    await rm(join(links, name), { force: true });
    await symlink(`../${layer}/diff`, join(links, name));
  }
  await syncDirectory(links);
}

async function assertKept(location: StorageLocation, image: KeptImage): Promise<void> {
  const layers = new Set((await readLayerRecords(location)).map(({ id }) => id));
  const missing = image.layers.filter((layer) => !layers.has(layer));
  if (missing.length > 0) throw notKept(image, `the main store still lacks the layers ${missing.join(', ')}`);
  const names = new Set((await readImageRecords(location)).find(({ id }) => id === image.id)?.names ?? []);
  const lost = image.names.filter((name) => !names.has(name));
  if (lost.length > 0) throw notKept(image, `in the main store it does not have the name ${lost.join(', ')}`);
}

/** The image's directory in the first of the stores that has its manifest. */
async function directoryOf({ id }: KeptImage, graphroots: readonly string[]): Promise<string | undefined> {
  for (const graphroot of graphroots) {
    const path = join(graphroot, 'overlay-images', id);
    if (existsSync(join(path, 'manifest'))) return path;
  }
  return undefined;
}
