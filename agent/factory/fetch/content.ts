/** What a file must begin with, by the end of its name. */
const STARTS: readonly { readonly names: RegExp; readonly bytes: Buffer; readonly what: string }[] = [
  // RFC 1952, 2.3.1.
  { names: /\.(tgz|gz)$/i, bytes: Buffer.from([0x1f, 0x8b]), what: 'a gzip file' },
  // RFC 8878, 3.1.1.
  { names: /\.(zst|tzst)$/i, bytes: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), what: 'a zstd file' },
  // Linux, fs/squashfs/squashfs_fs.h, SQUASHFS_MAGIC.
  { names: /\.squashfs$/i, bytes: Buffer.from('hsqs'), what: 'a squashfs image' },
];

/** So many first bytes are enough for contentFault. */
export const HEAD_BYTES = 64;

const HTML_NAME = /\.x?html?$/i;
const HTML_TYPE = /^\s*(text\/html|application\/xhtml\+xml)\b/i;
const HTML_START = /^\uFEFF?\s*<(!doctype\s+html|html|head|body)\b/i;

/** What the head of an answer says of its body. Headers as they came, undefined where they did not. */
export interface ContentHeaders {
  readonly contentType: string | undefined;
  readonly contentEncoding: string | undefined;
}

/**
 * Why an answer is not the file that was asked for, by its headers; undefined where they fit. Servers send pages of their own (a login, an
 * error, a notice) with status 200.
 */
export function headerFault(path: string, headers: ContentHeaders): string | undefined {
  if (headers.contentType !== undefined && HTML_TYPE.test(headers.contentType) && !HTML_NAME.test(path)) {
    return `is a page (${headers.contentType.slice(0, 80)})`;
  }
  const encoding = headers.contentEncoding?.trim().toLowerCase();
  // Some servers name the compression of .tgz files themselves so; the bytes are the file's all the same.
  const isOwn = encoding === undefined || encoding === '' || encoding === 'identity' || /\.(tgz|gz)$/i.test(path);
  return isOwn ? undefined : `is compressed on its way (${headers.contentEncoding?.slice(0, 80)})`;
}

/**
 * Why bytes are not the file that was asked for, by its first ones; undefined where they fit.
 * @param head the first HEAD_BYTES, or all where the file has less
 */
export function headFault(path: string, head: Buffer): string | undefined {
  if (!HTML_NAME.test(path) && HTML_START.test(head.toString('utf8'))) return 'is a page';
  const start = STARTS.find(({ names }) => names.test(path));
  return start === undefined || head.subarray(0, start.bytes.length).equals(start.bytes) ? undefined : `is not ${start.what}`;
}

/** A `Content-Range: bytes FIRST-LAST/TOTAL`; undefined for another. Source: RFC 9110, 14.4. */
export function parseContentRange(value: string | undefined): { readonly first: number; readonly total: number | undefined } | undefined {
  const [, first, total] = /^bytes (\d{1,15})-\d{1,15}\/(\d{1,15}|\*)$/.exec(value?.trim() ?? '') ?? [];
  return first === undefined ? undefined : { first: Number(first), total: total === '*' ? undefined : Number(total) };
}

/** A number of bytes or seconds in a header; undefined for anything else. */
export function parseCount(value: string | undefined): number | undefined {
  return value !== undefined && /^\d{1,15}$/.test(value.trim()) ? Number(value) : undefined;
}

/** What names one state of a file on a server. Source: RFC 9110, 8.8. */
export interface Validator {
  readonly etag?: string;
  readonly lastModified?: string;
}

export function validatorOf(answer: { header(name: string): string | undefined }): Validator {
  const etag = answer.header('etag');
  const lastModified = answer.header('last-modified');
  return { ...(etag !== undefined && { etag }), ...(lastModified !== undefined && { lastModified }) };
}

/** Whether two states are certainly one: by their ETags where both have one, else by their dates. */
export function isSameState(one: Validator, other: Validator): boolean {
  if (one.etag !== undefined && other.etag !== undefined) return one.etag === other.etag;
  return one.lastModified !== undefined && one.lastModified === other.lastModified;
}

/** What goes into If-Range: a strong ETag, else the date. Source: RFC 9110, 13.1.5. */
export function rangeCondition(validator: Validator): string | undefined {
  return validator.etag !== undefined && !validator.etag.startsWith('W/') ? validator.etag : validator.lastModified;
}
