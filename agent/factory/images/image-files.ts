import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { imageEntries, layoutImage, readOciLayout } from '../../extract/oci-layout.ts';
import { quote } from '../../host/exec.ts';
import type { Host } from '../../host/host.ts';
import { temporaryDirectory } from '../../host/remove-tree.ts';
import { hexOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { instanceFor, parseManifest } from '../../model/manifest.ts';
import { readLayer, removes, unreadable } from './layer-files.ts';

/** A file of an image. */
export interface ImageFile {
  /** Relative to the image's root, without a leading slash. */
  readonly path: string;
  readonly text: string;
}

export interface ImageFilesRequest {
  /** A pull-spec, `docker://`, `containers-storage:`, `oci:DIR[:NAME]`, `dir:DIR`, or the path of an OCI or `dir:` layout. */
  readonly source: string;
  /** Which files are wanted. */
  readonly wants: (path: string) => boolean;
  /** `--authfile` of skopeo, and further flags for a registry. */
  readonly skopeoFlags: readonly string[];
}

/** Larger files of a release or catalog are refused: the largest catalog file known has 60 MB. */
const FILE_LIMIT_BYTES = 256 * 1024 * 1024;

/** The blobs of one image for this machine, lowest layer first. */
interface LayerPaths {
  readonly where: string;
  readonly paths: readonly string[];
}

/**
 * Reads files from an image without running it. A file or a whiteout in a higher layer hides the file in lower layers.
 * Source: OCI image-spec, layer.md (whiteouts, opaque directories).
 * @throws PrestageError ERR_SOURCE
 */
export async function readImageFiles(host: Host, request: ImageFilesRequest): Promise<readonly ImageFile[]> {
  await using temporary = await temporaryDirectory('prestage-image-');
  const layers = await layersOf(host, request, temporary.path);
  const files = new Map<string, string>();
  for (const path of layers.paths) {
    const change = await readLayer(path, { wants: request.wants, fileLimitBytes: FILE_LIMIT_BYTES });
    for (const known of files.keys()) if (removes(change, known)) files.delete(known);
    for (const [name, text] of change.files) files.set(name, text);
  }
  return [...files].map(([path, text]) => ({ path, text })).toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

/** Reads the files below a directory that the filter accepts. */
export async function readFolderFiles(directory: string, wants: (path: string) => boolean): Promise<readonly ImageFile[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter(wants);
  return await Promise.all(paths.toSorted().map(async (path) => ({ path, text: await readFile(path, 'utf8') })));
}

async function layersOf(host: Host, request: ImageFilesRequest, temporary: string): Promise<LayerPaths> {
  const { source } = request;
  if (source.startsWith('dir:')) return await dirLayers(source.slice('dir:'.length), host);
  if (source.startsWith('oci:')) return await ociLayers(source.slice('oci:'.length), host);
  if (await isFile(join(source, 'oci-layout'))) return await ociLayers(source, host);
  if (await isFile(join(source, 'manifest.json'))) return await dirLayers(source, host);
  const spec = /^(docker:\/\/|containers-storage:)/.test(source) ? source : `docker://${source}`;
  const directory = join(temporary, 'image');
  const result = await host.exec('skopeo', [
    'copy',
    '--quiet',
    ...(spec.startsWith('docker:') ? request.skopeoFlags : []),
    spec,
    `dir:${directory}`,
  ]);
  if (result.exitCode === 0) return await dirLayers(directory, host);
  throw new PrestageError(
    'ERR_SOURCE',
    `${source} cannot be read: ${quote(result.stderr)}`,
    'Check the name and the network, or name a local copy: oci:DIR:NAME, dir:DIR, containers-storage:NAME',
  );
}

/** skopeo's `dir:` layout: blobs lie beside the manifest under their hex digits. */
async function dirLayers(directory: string, host: Host): Promise<LayerPaths> {
  const read = async (name: string) =>
    parseManifest(await readFile(join(directory, name)).catch(unreadable(directory)), join(directory, name));
  const top = await read('manifest.json');
  const chosen = top.kind === 'index' ? instanceFor(top, host.architecture) : undefined;
  const image = chosen === undefined ? top : await read(`${hexOf(chosen.digest)}.manifest.json`);
  if (image.kind === 'index')
    throw new PrestageError(
      'ERR_ARCHITECTURE',
      `${directory} has no image for linux/${host.architecture}`,
      'Name an image for this machine',
    );
  return { where: directory, paths: image.layers.map((layer) => join(directory, hexOf(layer.digest))) };
}

async function ociLayers(spec: string, host: Host): Promise<LayerPaths> {
  const isWhole = await isFile(join(spec, 'oci-layout'));
  const colon = spec.indexOf(':');
  const directory = isWhole || colon < 0 ? spec : spec.slice(0, colon);
  const name = isWhole || colon < 0 ? undefined : spec.slice(colon + 1);
  const entries = imageEntries(await readOciLayout(directory));
  const found = entries.filter((entry) => name === undefined || entry.reference === name);
  const [entry] = found;
  if (entry === undefined || found.length > 1) {
    throw new PrestageError(
      'ERR_SOURCE',
      `${directory} has ${found.length} images${name === undefined ? '' : ` named ${name}`}, not exactly one; it has: ${entries
        .map((one) => one.reference)
        .slice(0, 20)
        .join(', ')}`,
      'Name one of them: oci:DIR:NAME',
    );
  }
  const { image } = await layoutImage(directory, entry.digest, host.architecture);
  return { where: directory, paths: image.layers.map((layer) => join(directory, 'blobs/sha256', hexOf(layer.digest))) };
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}
