import { createHash } from 'node:crypto';
import { BUNDLE_FILE, BUNDLE_LIMIT_BYTES, type Bundle, PARTIAL_FILE, parseBundle } from '../../model/bundle.ts';
import { PrestageError } from '../../model/errors.ts';
import { quoteInput } from '../../model/faults.ts';
import { shown } from '../web/http.ts';
import { headerFault, headFault } from './content.ts';
import { type AskContext, type ListedFile, listFolder, readText } from './listing.ts';

/** The content of an address: a bundle, or a folder of files that only an index page names. */
export type Source =
  | {
      readonly kind: 'bundle';
      readonly bundle: Bundle;
      /** The manifest as the server has it. */
      readonly bytes: Buffer;
      readonly sha256: string;
      readonly notices: readonly string[];
    }
  | { readonly kind: 'folder'; readonly files: readonly ListedFile[]; readonly notices: readonly string[] };

/**
 * The folder of an address that a person gives: with `/` at its end, without the manifest's name, query and fragment.
 * @throws PrestageError ERR_USAGE
 */
export function folderUrl(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || url.hostname === '') {
    throw new PrestageError(
      'ERR_USAGE',
      `${quoteInput(text.replace(/\/\/[^/@\s]*@/, '//'))} is not an http or https address`,
      'Give it as http://HOST/FOLDER/',
    );
  }
  url.search = '';
  url.hash = '';
  if (url.pathname.endsWith(`/${BUNDLE_FILE}`)) url.pathname = url.pathname.slice(0, -BUNDLE_FILE.length);
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}

/**
 * Reads the manifest of an address, or else its index pages.
 * @throws PrestageError ERR_BUNDLE, ERR_BUNDLE_PIN, ERR_BUNDLE_PARTIAL, ERR_FETCH_*
 */
export async function readSource(folder: URL, pinnedSha256: string | undefined, context: AskContext): Promise<Source> {
  const url = new URL(BUNDLE_FILE, folder);
  const found = await readText(url, BUNDLE_LIMIT_BYTES, context);
  const isPage =
    found !== undefined &&
    (headerFault(BUNDLE_FILE, { contentType: found.contentType, contentEncoding: undefined }) ?? headFault(BUNDLE_FILE, found.bytes)) !==
      undefined;
  if (found === undefined || isPage) {
    if (pinnedSha256 !== undefined) {
      throw new PrestageError(
        'ERR_BUNDLE_PIN',
        `${shown(folder)} has no ${BUNDLE_FILE}, but one with sha256 ${pinnedSha256} was requested`,
        'Give the address of the bundle, or leave --bundle-sha256 out',
      );
    }
    const listing = await listFolder(folder, context);
    if (listing.files.length > 0) return { kind: 'folder', ...listing };
    throw new PrestageError(
      'ERR_FETCH_INDEX',
      `${shown(folder)} is an empty folder`,
      'Give the address of the folder that holds the files',
    );
  }
  const sha256 = createHash('sha256').update(found.bytes).digest('hex');
  if (pinnedSha256 !== undefined && pinnedSha256 !== sha256) {
    throw new PrestageError(
      'ERR_BUNDLE_PIN',
      `${shown(url)} has the sha256 ${sha256}, expected ${pinnedSha256}`,
      'Put the intended bundle on the server, or give the hash of this one',
    );
  }
  const bundle = parseBundle(found.bytes.toString('utf8'), shown(url));
  return { kind: 'bundle', bundle, bytes: found.bytes, sha256, notices: await halfWritten(folder, context) };
}

/** A bundle can be fetched while it is still being written on the server: hashes show which files are old, and this says why. */
async function halfWritten(folder: URL, context: AskContext): Promise<readonly string[]> {
  const answer = await context.client.ask(new URL(PARTIAL_FILE, folder), { method: 'HEAD', signal: context.signal }).catch(() => undefined);
  answer?.drop();
  const isPartial = answer?.status === 200 && !/html/i.test(answer.header('content-type') ?? '');
  return isPartial ? [`${shown(folder)}${PARTIAL_FILE}: the bundle on the server is incomplete, so some files may not match`] : [];
}
