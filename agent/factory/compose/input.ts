import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ArchiveFile, namesOf } from '../../extract/archives.ts';
import { readOciLayout } from '../../extract/oci-layout.ts';
import type { ReleaseSignature } from '../../model/bundle.ts';
import type { Digest } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { listFaults } from '../../model/faults.ts';
import { archiveCollisions, type ListedImage, parseImageLists } from '../../model/image-list.ts';
import { NO_MAPPING, parseMapping } from '../../model/mapping.ts';
import { OCI_MARKER_FILE, type OciEntry } from '../../model/oci-layout.ts';
import { formatReference, hasRegistry, readReference } from '../../model/reference.ts';
import { STAGES, type Stage } from '../../model/stage.ts';
import { pickStageLists, stageListNames } from '../../model/stage-lists.ts';
import { reasonOf } from '../../model/system-error.ts';
import { RELEASE_SIGNATURES_FILE } from '../../signatures/lookaside.ts';
import { readLeftOut } from '../shared/left-out.ts';
import { readLookasideRecord } from '../shared/lookaside-record.ts';
import { attachedFinder, type FindAttached } from './source-attached.ts';
import { type FindSignatures, signatureFinder, signatureKeyOf } from './source-signatures.ts';

/** A listed image and where its bytes are. */
export interface InputImage {
  readonly listed: ListedImage;
  /** Full references that must resolve. */
  readonly names: readonly string[];
  readonly source: ImageSource;
}

/** An image of the layout by its digest, or an archive. */
export type ImageSource =
  | { readonly kind: 'layout'; readonly digest: Digest }
  | { readonly kind: 'archive'; readonly archive: ArchiveFile };

/** The content of the folder to build from, as far as file names show. */
export interface BuildInput {
  readonly kind: 'oci' | 'archives';
  /** Absolute. */
  readonly directory: string;
  readonly stages: readonly { readonly stage: Stage; readonly images: readonly InputImage[] }[];
  /** The image that was chosen to serve the registry. */
  readonly registryImage?: InputImage;
  /** Files that go with archives: lists of the stages, and mapping.txt if there is one. Absolute paths by the name in the bundle. */
  readonly listFiles: ReadonlyMap<string, string>;
  readonly notices: readonly string[];
  /** Lines, as listed, that are left out because pull has found that they do not name an image. */
  readonly leftOut: readonly string[];
  /** Finds signatures in the layout; archives have none. */
  readonly findSignatures: FindSignatures;
  /** Finds attachments in the layout; archives have none. */
  readonly findAttached: FindAttached;
  /** Identifies signatures and attachments: an image can be signed later without a change of its own digest. */
  readonly signatureKey: string;
  /** Of all releases in the layout; archives have none. */
  readonly releaseSignatures: readonly ReleaseSignature[];
}

/** Paths of image lists, by stage; if none is given, the lists in the folder count. */
export type ListFiles = Readonly<Partial<Record<Stage, string>>>;

export interface InputOptions {
  readonly lists: ListFiles;
  /** Leave out listed lines that do not name a container image. */
  readonly skipsArtifacts?: boolean;
  /** Reference of an image of the folder that can serve a registry; it need not be listed. */
  readonly registryImage?: string;
}

/** The name of a stage's list beside archives, if the list was given by a path of its own. */
const LIST_NAMES: Readonly<Record<Stage, string>> = { discovery: 'ai-images.txt', installed: 'ocp-images.txt' };

/**
 * Reads the lists and finds the image of each line. Nothing is unpacked.
 * @param directory absolute path of an OCI image layout, or of a folder of archives
 * @throws PrestageError ERR_BUILD_INPUT, ERR_BUILD_IMAGE with every image that is missing, ERR_NOT_IMAGE, ERR_LIST, ERR_MAPPING, ERR_LAYOUT, ERR_SIGNATURE
 */
export async function readInput(directory: string, { lists, registryImage, skipsArtifacts = false }: InputOptions): Promise<BuildInput> {
  const files = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    throw unusable(`${directory} cannot be read: ${reasonOf(error)}`, error);
  });
  const kind = files.includes(OCI_MARKER_FILE) ? 'oci' : 'archives';
  if (kind === 'archives' && !files.some((name) => name.endsWith('.tgz'))) {
    throw unusable(`${directory} holds neither ${OCI_MARKER_FILE} nor a .tgz`);
  }
  const mappingFile = join(directory, 'mapping.txt');
  const mapping = files.includes('mapping.txt') ? parseMapping(await readFile(mappingFile, 'utf8'), mappingFile) : NO_MAPPING;
  const listPaths = STAGES.map((stage) => ({ stage, paths: pathsFor(stage, lists, directory, files) })).filter(
    ({ paths }) => paths.length > 0,
  );
  if (listPaths.length === 0) {
    throw unusable(`${directory} holds no image list (${STAGES.flatMap(stageListNames).join(', ')}), and none is given`);
  }
  const entries = kind === 'oci' ? await readOciLayout(directory) : [];
  const releases = kind === 'oci' ? await readLookasideRecord(directory, RELEASE_SIGNATURES_FILE) : [];
  const lookaside = kind === 'oci' ? await readLookasideRecord(directory) : [];
  const find = kind === 'oci' ? layoutFinder(entries) : archiveFinder(directory);
  const leftOut = await readLeftOut(directory);
  const notices = [...mapping.notices];
  const faults: string[] = [];
  const artifacts: string[] = [];
  const skipped: string[] = [];
  const stages: BuildInput['stages'][number][] = [];
  for (const { stage, paths } of listPaths) {
    const list = parseImageLists(await Promise.all(paths.map(async (where) => ({ where, text: await readList(where) }))));
    notices.push(...list.notices);
    faults.push(...(kind === 'archives' ? collisionFaults(list.images) : []));
    const images: InputImage[] = [];
    for (const listed of list.images) {
      const source = await find(listed);
      const artifact = typeof source === 'string' ? leftOut.get(formatReference(listed.reference)) : undefined;
      if (artifact !== undefined) {
        if (skipsArtifacts) skipped.push(listed.text);
        (skipsArtifacts ? notices : artifacts).push(`${stage}: ${listed.text} is left out: ${artifact}`);
      } else if (typeof source === 'string') faults.push(`${stage}: ${listed.text}: ${source}`);
      else images.push({ listed, names: namesOf(listed, mapping), source });
    }
    stages.push({ stage, images });
  }
  const extra: InputImage[] = [];
  for (const listed of registryImage === undefined ? [] : parseImageLists([{ text: registryImage, where: '--registry-image' }]).images) {
    const source = await find(listed);
    if (typeof source === 'string') faults.push(`--registry-image ${listed.text}: ${source}`);
    else extra.push({ listed, names: namesOf(listed, mapping), source });
  }
  faults.push(...conflictingNames([...stages.flatMap((one) => one.images), ...extra]));
  if (faults.length > 0) {
    throw new PrestageError(
      'ERR_BUILD_IMAGE',
      listFaults(`${directory} does not contain all listed images`, faults),
      'Pull with the same lists into that folder, or take the images off the list',
    );
  }
  if (artifacts.length > 0) throw artifactsError(artifacts);
  const listFiles = listPaths.flatMap(({ stage, paths }) => paths.map((path) => [listNameOf(stage, path, lists), path] as const));
  return {
    kind,
    directory,
    stages,
    ...(extra[0] && { registryImage: extra[0] }),
    listFiles: new Map([...listFiles, ...(files.includes('mapping.txt') ? [['mapping.txt', mappingFile] as const] : [])]),
    notices,
    leftOut: skipped,
    findSignatures: signatureFinder(entries, lookaside),
    findAttached: attachedFinder(entries),
    signatureKey: signatureKeyOf(entries, [...lookaside, ...releases]),
    releaseSignatures: releases.map(({ subject, files: messages }) => ({ release: subject, files: [...messages] })),
  };
}

/** The error for lists that name something other than images; `--skip-artifacts` avoids it. */
export function artifactsError(faults: readonly string[]): PrestageError {
  return new PrestageError(
    'ERR_NOT_IMAGE',
    listFaults('the lists name artifacts that are not container images for Linux', faults),
    'Take these lines off the lists, or build with --skip-artifacts',
  );
}

function pathsFor(stage: Stage, lists: ListFiles, directory: string, files: readonly string[]): readonly string[] {
  const given = lists[stage];
  if (given !== undefined) return [given];
  if (Object.keys(lists).length > 0) return [];
  return pickStageLists(stage, files).map((name) => join(directory, name));
}

function listNameOf(stage: Stage, path: string, lists: ListFiles): string {
  return lists[stage] === undefined ? path.slice(path.lastIndexOf('/') + 1) : LIST_NAMES[stage];
}

async function readList(path: string): Promise<string> {
  return await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw unusable(`the list ${path} cannot be read: ${reasonOf(cause)}`, cause);
  });
}

type Finder = (listed: ListedImage) => Promise<ImageSource | string>;

/** By digest if the list has one, else by the whole reference. */
function layoutFinder(entries: readonly OciEntry[]): Finder {
  const digests = new Set(entries.map((entry) => entry.digest));
  const byName = Map.groupBy(
    entries.flatMap((entry): { readonly name: string; readonly digest: Digest }[] => {
      // A name without a registry is not a full name.
      const reference = hasRegistry(entry.reference) ? readReference(entry.reference) : '';
      return typeof reference === 'string' ? [] : [{ name: formatReference(reference), digest: entry.digest }];
    }),
    ({ name }) => name,
  );
  return async ({ reference }) => {
    const [found, ...others] = byName.get(formatReference(reference)) ?? [];
    const digest = reference.digest ?? found?.digest;
    if (reference.digest === undefined && others.length > 0)
      return `the layout has several images with this name, ${[found, ...others].map((one) => one?.digest).join(', ')}: list it by digest`;
    if (digest === undefined) return 'the layout has no image with this reference';
    return digests.has(digest) ? { kind: 'layout', digest } : 'the layout has no image with this digest';
  };
}

function archiveFinder(directory: string): Finder {
  return async ({ archiveName: name }) => {
    const path = join(directory, `${name}.tgz`);
    const found = await lstat(path).catch((error: NodeJS.ErrnoException) => reasonOf(error));
    if (typeof found === 'string') return `${path} cannot be read: ${found}`;
    if (!found.isFile()) return `${path} is not a plain file`;
    return { kind: 'archive', archive: { path, name, sizeBytes: found.size, modifiedMs: found.mtimeMs } };
  };
}

function collisionFaults(images: readonly ListedImage[]): readonly string[] {
  return archiveCollisions(images).map(
    (group) => `${group.map((image) => image.text).join(' and ')} have the same archive name ${group[0]?.archiveName}.tgz`,
  );
}

/** Names that two images would share: an engine can give a name to only one of them. */
function conflictingNames(images: readonly InputImage[]): readonly string[] {
  const owners = Map.groupBy(
    images.flatMap((image) => image.names.map((name) => ({ name, image }))),
    ({ name }) => name,
  );
  return [...owners].flatMap(([name, group]) => {
    const distinct = new Map(group.map(({ image }) => [sourceId(image.source), image.listed.text]));
    return distinct.size <= 1 ? [] : [`${[...distinct.values()].join(' and ')} would both be named ${name}, by the list or mapping.txt`];
  });
}

function sourceId(source: ImageSource): string {
  return source.kind === 'layout' ? source.digest : source.archive.path;
}

function unusable(message: string, cause?: unknown): PrestageError {
  return new PrestageError(
    'ERR_BUILD_INPUT',
    message,
    'Give the folder of a pull with --from, and its lists with --list-discovery and --list-installed',
    { cause },
  );
}
