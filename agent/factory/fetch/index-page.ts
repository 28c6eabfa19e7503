import { BUNDLE_FILE, isInnerPath, PARTIAL_FILE } from '../../model/bundle.ts';
import { quoteInput } from '../../model/faults.ts';

/** The content of a folder of a web server, by its index page. */
export interface IndexPage {
  readonly entries: readonly IndexEntry[];
  /** Links that lead elsewhere or have a name that is not valid for a file, for the log. */
  readonly refused: readonly string[];
}

export interface IndexEntry {
  readonly kind: 'file' | 'directory';
  /** One path component, decoded. */
  readonly name: string;
  /** Of a directory with `/` at its end. */
  readonly url: string;
}

/** A larger index page is refused. This is enough for 50,000 names with their lines. */
export const INDEX_LIMIT_BYTES = 16 * 1024 * 1024;
/** The folder for partial downloads, and for the journal of fetched files. */
export const WORK_FOLDER = '.prestage-fetch';

/** A longer tag is not a link of an index page; this bounds the work on each tag. */
const TAG_LIMIT = 8192;
/** Longest file name, in bytes. Source: path_resolution(7), NAME_MAX. */
const NAME_LIMIT_BYTES = 255;
/** In two steps, so that no part of a hostile tag is scanned again and again. */
const ANCHOR_HREF = /^a\s[^>]*?\bhref\s*=\s*/i;
const VALUE = /^(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))/;
/** Heads of the pages of nginx, Apache httpd, lighttpd, caddy (`Index of`) and Python (`Directory listing for`). */
const HEAD = /<(?:title|h1)[^<>]{0,200}>\s*(?:Index of|Directory listing for)\b/i;
/** Names for our own use: never taken from a server. */
const OWN_NAMES: readonly string[] = [BUNDLE_FILE, PARTIAL_FILE, WORK_FOLDER, '.', '..'];
/** `lost+found` of ext4: nobody but root may list it. */
const PASSED_OVER: readonly string[] = ['lost+found'];

/**
 * Reads the index page that a web server makes of a folder: nginx (autoindex), Apache httpd (mod_autoindex) or Python (http.server).
 * Only names directly below the folder count: links to other hosts, upwards, deeper, with a query (Apache's columns) are not entries.
 * Source: nginx, ngx_http_autoindex_module.c; httpd, mod_autoindex.c; CPython, Lib/http/server.py, list_directory.
 * @param folder URL of the folder, with `/` at its end
 * @returns undefined if the page is not an index page
 */
export function parseIndexPage(html: string, folder: URL): IndexPage | undefined {
  if (!HEAD.test(html.slice(0, TAG_LIMIT))) return undefined;
  const entries = new Map<string, IndexEntry>();
  const refused: string[] = [];
  for (const href of linksOf(html)) {
    const entry = entryOf(href, folder);
    if (typeof entry === 'string') refused.push(entry);
    else if (entry !== undefined && !entries.has(entry.name)) entries.set(entry.name, entry);
  }
  return { entries: [...entries.values()], refused };
}

/** The values of `href` in all `<a>` tags, entities decoded. In linear time, whatever the page is. */
function* linksOf(html: string): Generator<string> {
  for (let at = html.indexOf('<'); at >= 0; ) {
    const next = html.indexOf('<', at + 1);
    const tag = html.slice(at + 1, Math.min(next < 0 ? html.length : next, at + 1 + TAG_LIMIT));
    const before = ANCHOR_HREF.exec(tag)?.[0];
    const match = before === undefined ? null : VALUE.exec(tag.slice(before.length));
    const value = match?.[1] ?? match?.[2] ?? match?.[3];
    if (value !== undefined) yield decodeEntities(value.trim());
    at = next;
  }
}

/** The entry that a link leads to; undefined for links that every index page has beside its entries; a text with the reason if it is refused. */
function entryOf(href: string, folder: URL): IndexEntry | string | undefined {
  const url = URL.parse(href, folder.href);
  if (url === null) return `${quoteInput(href)} is not a URL`;
  if (url.origin !== folder.origin) return `${quoteInput(href)} leads to another server`;
  if (url.search !== '' || url.hash !== '') return undefined;
  // The folder itself or one above it.
  if (folder.pathname.startsWith(url.pathname)) return undefined;
  if (!url.pathname.startsWith(folder.pathname)) return `${quoteInput(href)} leads out of the folder`;
  const rest = url.pathname.slice(folder.pathname.length);
  const isDirectory = rest.endsWith('/');
  const name = decode(isDirectory ? rest.slice(0, -1) : rest);
  if (name === undefined || !isFileName(name)) return `${quoteInput(href)} is not a valid file name`;
  if (PASSED_OVER.includes(name)) return undefined;
  return { kind: isDirectory ? 'directory' : 'file', name, url: new URL(url.pathname, folder).href };
}

function isFileName(name: string): boolean {
  return (
    isInnerPath(name) &&
    !name.includes('/') &&
    !hasControl(name) &&
    Buffer.byteLength(name) <= NAME_LIMIT_BYTES &&
    name.isWellFormed() &&
    !OWN_NAMES.includes(name)
  );
}

/** Whether a text has a control character of ASCII. */
function hasControl(text: string): boolean {
  return text.split('').some((character) => character < ' ' || character === '\u007f');
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

const ENTITIES: ReadonlyMap<string, string> = new Map([
  ['amp', '&'],
  ['lt', '<'],
  ['gt', '>'],
  ['quot', '"'],
  ['apos', "'"],
]);

/** The entities that the servers write in attributes; others stay as they are. */
function decodeEntities(text: string): string {
  return text.replaceAll(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]{2,4}));/gi, (whole, decimal?: string, hex?: string, name?: string) => {
    if (name !== undefined) return ENTITIES.get(name.toLowerCase()) ?? whole;
    const code = decimal === undefined ? Number.parseInt(hex ?? '', 16) : Number(decimal);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}
