import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '../model/digest.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { archiveCollisions, type ListedImage, parseImageLists } from '../model/image-list.ts';
import { extraTagFor, type Mapping, NO_MAPPING, parseMapping } from '../model/mapping.ts';
import { formatReference, nameOf, type Reference } from '../model/reference.ts';
import type { Stage } from '../model/stage.ts';
import { pickStageLists } from '../model/stage-lists.ts';
import { reasonOf } from '../model/system-error.ts';

/** One image of the list with its archive. */
export interface ArchivedImage {
  readonly kind: 'archive';
  /** As written in the list. */
  readonly reference: string;
  /** Full references that must resolve once the image is loaded. */
  readonly names: readonly string[];
  /** Digest that the archive must hold, if the reference or a sealed bundle gives one. */
  readonly digest: Digest | undefined;
  readonly archive: ArchiveFile;
  /** Factor by which its layers grow when unpacked, if the bundle says so. */
  readonly growth: number | undefined;
}

/** Identifies the state of an archive file: a changed file has another size or time. */
export interface ArchiveFile {
  readonly path: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

/** The payload of the prototype and of the factory-precaching tool: image lists, and one archive for each image. */
export interface ArchivesPayload {
  readonly kind: 'archives';
  /** The list files of the stage, as absolute paths. */
  readonly lists: readonly string[];
  /** All references of the lists, in the order of the lists. */
  readonly listed: readonly string[];
  readonly images: readonly ArchivedImage[];
  /** Listed images that cannot be loaded: their archive is missing or not a regular file, or two images share its name. */
  readonly refused: readonly { readonly reference: string; readonly error: ErrorRecord }[];
  readonly notices: readonly string[];
}

/** Larger list or mapping files are refused; this is enough for 100,000 references of 160 characters. */
const TEXT_LIMIT_BYTES = 16 * 1024 * 1024;

/**
 * Reads the lists and the mapping of a stage and finds the archives. Writes nothing and opens no archive.
 * Source: docs/field-facts.md, "Image list", "Archive", "Folder of the factory-precaching tool".
 * @throws PrestageError ERR_PAYLOAD_MISSING, ERR_LIST, ERR_MAPPING
 */
export async function readArchives(directory: string, stage: Stage): Promise<ArchivesPayload> {
  const files = await readdir(directory);
  const listNames = pickStageLists(stage, files);
  if (listNames.length === 0) {
    throw new PrestageError(
      'ERR_PAYLOAD_MISSING',
      `${directory} holds no image list for the stage "${stage}"; it holds: ${files.toSorted().slice(0, 12).join(', ') || 'nothing'}`,
      stage === 'discovery'
        ? 'Put ai-images.txt there at the factory, or choose another --stage'
        : 'Put ocp-images.txt there at the factory, or choose another --stage',
    );
  }
  const lists = listNames.map((name) => join(directory, name));
  const parsed = parseImageLists(await Promise.all(lists.map(async (where) => ({ text: await readText(where), where }))));
  const mapping = files.includes('mapping.txt')
    ? parseMapping(await readText(join(directory, 'mapping.txt')), join(directory, 'mapping.txt'))
    : NO_MAPPING;
  const collided = collisionErrors(parsed.images);
  const found = await Promise.all(
    parsed.images.map(async (listed) => collided.get(listed.text) ?? (await findArchive(directory, listed, mapping))),
  );
  return {
    kind: 'archives',
    lists,
    listed: parsed.images.map((image) => image.text),
    images: found.filter((entry) => 'archive' in entry),
    refused: found.filter((entry) => 'error' in entry),
    notices: [...parsed.notices, ...mapping.notices],
  };
}

/** Full references under which a listed image must resolve: by digest and by tag if it has both, and by the tag in the mapping. */
export function namesOf(listed: ListedImage, mapping: Mapping): readonly string[] {
  const { tag, digest, ...rest } = listed.reference;
  const own: readonly Reference[] =
    tag !== undefined && digest !== undefined
      ? [
          { ...rest, digest },
          { ...rest, tag },
        ]
      : [listed.reference];
  const extra = extraTagFor(listed, mapping);
  return [...new Set([...own, ...(extra === undefined ? [] : [extra])].map(formatReference))];
}

async function findArchive(
  directory: string,
  listed: ListedImage,
  mapping: Mapping,
): Promise<ArchivedImage | { reference: string; error: ErrorRecord }> {
  const name = listed.archiveName;
  const path = join(directory, `${name}.tgz`);
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => error);
  if (found instanceof Error) {
    return refusal(
      listed,
      new PrestageError(
        'ERR_ARCHIVE_MISSING',
        `${path} of ${listed.text} cannot be read: ${reasonOf(found)}`,
        'Write the archive at the factory, or remove the image from the list',
      ),
    );
  }
  if (!found.isFile()) {
    return refusal(
      listed,
      new PrestageError(
        'ERR_ARCHIVE_MISSING',
        `${path} of ${listed.text} is not a regular file`,
        'Write the archive itself to the partition, not a link',
      ),
    );
  }
  return {
    kind: 'archive',
    reference: listed.text,
    names: namesOf(listed, mapping),
    digest: listed.reference.digest,
    archive: { path, name, sizeBytes: found.size, modifiedMs: found.mtimeMs },
    growth: undefined,
  };
}

/** Images that share one archive name. All are refused, because the name does not say which one the archive holds. */
function collisionErrors(images: readonly ListedImage[]): ReadonlyMap<string, { reference: string; error: ErrorRecord }> {
  return new Map(
    archiveCollisions(images).flatMap((group) =>
      group.map((listed) => {
        const others = group.filter((other) => other !== listed).map((other) => nameOf(other.reference));
        const message = `${listed.text} and ${others.join(', ')} have the same archive name ${listed.archiveName}.tgz`;
        return [
          listed.text,
          refusal(listed, new PrestageError('ERR_ARCHIVE_COLLISION', message, 'List them by digest, or keep one of them on the list')),
        ] as const;
      }),
    ),
  );
}

function refusal(listed: ListedImage, error: PrestageError): { reference: string; error: ErrorRecord } {
  return { reference: listed.text, error: errorRecord(error) };
}

/** Reads a text file of the partition: only a regular file within the limit, never through a link. */
export async function readText(path: string, limitBytes = TEXT_LIMIT_BYTES): Promise<string> {
  await using file: FileHandle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      throw new PrestageError(
        'ERR_PAYLOAD_MISSING',
        `${path} cannot be opened: ${reasonOf(cause)}`,
        'Write it as a regular file at the factory',
        { cause },
      );
    },
  );
  const found = await file.stat();
  if (!found.isFile() || found.size > limitBytes) {
    throw new PrestageError(
      'ERR_PAYLOAD_MISSING',
      `${path} is not a regular file of at most ${limitBytes} bytes (it has ${found.size})`,
      'Write it as a regular file at the factory',
    );
  }
  return await file.readFile('utf8');
}
