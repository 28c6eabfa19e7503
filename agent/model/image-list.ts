import { PrestageError } from './errors.ts';
import { listFaults, quoteInput } from './faults.ts';
import { archiveNameOf, formatReference, type Reference, readReference } from './reference.ts';
import { linesOf } from './text-lines.ts';

/** One image of a list. */
export interface ListedImage {
  /** The pull-spec exactly as in the list. */
  readonly text: string;
  readonly reference: Reference;
  /** Line of the list, from 1. */
  readonly line: number;
  /** Name of its archive without `.tgz`. */
  readonly archiveName: string;
}

/** The content of a list, in its own order, each reference once. */
export interface ImageList {
  readonly images: readonly ListedImage[];
  /** Ignored lines and their places, for the log. */
  readonly notices: readonly string[];
}

/** The text of a list and its path, for messages. */
export interface ListText {
  readonly text: string;
  readonly where: string;
}

/** Most lines of a list; the longest real one has a few hundred. */
export const LIST_LINE_LIMIT = 100_000;
/** Longest line of a list, in characters. */
const LIST_LINE_LENGTH_LIMIT = 4096;

/**
 * Reads an image list: one pull-spec per line, the first field of the line. Empty lines and `#` comments are ignored; CRLF, tabs and a byte
 * order mark are accepted. A repeated reference is dropped with a notice.
 * Source: docs/field-facts.md, "Image list".
 * @param where path of the list, for messages
 * @throws PrestageError ERR_LIST with every fault and its place
 */
export function parseImageList(text: string, where: string): ImageList {
  return parseImageLists([{ text, where }]);
}

/**
 * Reads the lists of one stage as one list: if a later list repeats a reference of an earlier one, it is dropped with a notice.
 * @throws PrestageError ERR_LIST with every fault of every list
 */
export function parseImageLists(lists: readonly ListText[]): ImageList {
  const found = new Map<string, { readonly image: ListedImage; readonly place: string; readonly where: string }>();
  const repeated: Repeated[] = [];
  const notices: string[] = [];
  const faults: string[] = [];
  for (const { text, where } of lists) {
    const lines = linesOf(text);
    if (lines.length > LIST_LINE_LIMIT) {
      faults.push(`${where} has ${lines.length} lines, more than ${LIST_LINE_LIMIT}`);
      continue;
    }
    for (const { content, line } of lines) {
      const place = `${where}:${line}`;
      const image = readLine(content, line);
      if (image === undefined) continue;
      if (typeof image === 'string') {
        faults.push(`${place}: ${image}`);
        continue;
      }
      const key = formatReference(image.reference);
      const earlier = found.get(key);
      if (earlier === undefined) found.set(key, { image, place, where });
      else if (earlier.where !== where)
        repeated.push({ where, earlier: earlier.where, notice: `${place}: ${image.text} is already listed at ${earlier.place}` });
      else notices.push(`${place}: ${image.text} is already listed at ${earlier.place}`);
    }
  }
  if (faults.length > 0) throw unreadable(lists, faults);
  return { images: [...found.values()].map(({ image }) => image), notices: [...notices, ...repeatedNotices(repeated)] };
}

/** An image that a list has in common with an earlier list. */
interface Repeated {
  readonly where: string;
  readonly earlier: string;
  readonly notice: string;
}

/** Two stages share many images: one line for two lists. */
function repeatedNotices(repeated: readonly Repeated[]): readonly string[] {
  const groups = Map.groupBy(repeated, ({ where, earlier }) => `${where}\n${earlier}`);
  return [...groups.values()].flatMap((group) => {
    const [first, ...others] = group;
    if (first === undefined || others.length === 0) return group.map(({ notice }) => notice);
    return [`${first.where} repeats ${group.length} images of ${first.earlier}; they are taken once`];
  });
}

/**
 * Groups of different images with the same archive name, in the order of the list: their archives would overwrite each other. Images with
 * the same digest in several repositories may share their archive and are not a collision.
 */
export function archiveCollisions(images: readonly ListedImage[]): readonly (readonly ListedImage[])[] {
  const groups = Map.groupBy(images, (image) => image.archiveName);
  return [...groups.values()].filter((group) => group.length > 1 && !haveOneDigest(group));
}

/**
 * The text of a list without the lines of some images; everything else is unchanged.
 * @param texts pull-specs exactly as in the list
 */
export function withoutImages(text: string, texts: ReadonlySet<string>): string {
  if (texts.size === 0) return text;
  return text
    .split(/(?<=\n)/)
    .filter((line) => !texts.has(firstField(line.replace('\uFEFF', ''))))
    .join('');
}

function haveOneDigest(group: readonly ListedImage[]): boolean {
  const digests = new Set(group.map((image) => image.reference.digest));
  return digests.size === 1 && !digests.has(undefined);
}

/** The image of a line; undefined if the line has none; a text if the line has a fault. */
function readLine(content: string, line: number): ListedImage | string | undefined {
  if (content.length > LIST_LINE_LENGTH_LIMIT) {
    return `the line has ${content.length} characters, more than ${LIST_LINE_LENGTH_LIMIT}: ${quoteInput(content)}`;
  }
  const text = firstField(content);
  if (text === '' || text.startsWith('#')) return undefined;
  const reference = readReference(text);
  return typeof reference === 'string' ? reference : { text, reference, line, archiveName: archiveNameOf(text) };
}

function firstField(line: string): string {
  const [text = ''] = line.trim().split(/\s/, 1);
  return text;
}

function unreadable(lists: readonly ListText[], faults: readonly string[]): PrestageError {
  const paths = lists.map((list) => list.where).join(', ');
  return new PrestageError(
    'ERR_LIST',
    listFaults(`${paths} cannot be read`, faults),
    'Correct these lines, one image reference per line, or write the list again at the factory',
  );
}
