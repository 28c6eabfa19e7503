/** The bytes that a file must begin with, by the end of its name. */
const STARTS: readonly { readonly names: RegExp; readonly bytes: Buffer; readonly what: string }[] = [
  // RFC 1952, 2.3.1.
  { names: /\.(tgz|gz)$/i, bytes: Buffer.from([0x1f, 0x8b]), what: 'a gzip file' },
  // RFC 8878, 3.1.1.
  { names: /\.(zst|tzst)$/i, bytes: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), what: 'a zstd file' },
  // Linux, fs/squashfs/squashfs_fs.h, SQUASHFS_MAGIC.
  { names: /\.squashfs$/i, bytes: Buffer.from('hsqs'), what: 'a squashfs image' },
];

/** The number of first bytes that headFault needs. */
export const HEAD_BYTES = 64;

const HTML_NAME = /\.x?html?$/i;
const HTML_TYPE = /^\s*(text\/html|application\/xhtml\+xml)\b/i;
const HTML_START = /^\uFEFF?\s*<(!doctype\s+html|html|head|body)\b/i;

/** The headers of an answer that describe its body, as received; undefined if missing. */
export interface ContentHeaders {
  readonly contentType: string | undefined;
  readonly contentEncoding: string | undefined;
}

/**
 * Why an answer is not the requested file, by its headers; undefined if they fit. Servers send pages of their own (a login, an error, a notice)
 * with status 200.
 */
export function headerFault(path: string, headers: ContentHeaders): string | undefined {
  if (headers.contentType !== undefined && HTML_TYPE.test(headers.contentType) && !HTML_NAME.test(path)) {
    return `is an HTML page (${headers.contentType.slice(0, 80)})`;
  }
  const encoding = headers.contentEncoding?.trim().toLowerCase();
  // Some servers report the compression of a .tgz file itself this way; the bytes are still those of the file.
  const isOwn = encoding === undefined || encoding === '' || encoding === 'identity' || /\.(tgz|gz)$/i.test(path);
  return isOwn ? undefined : `is compressed for the transfer (${headers.contentEncoding?.slice(0, 80)})`;
}

/**
 * Why bytes are not the requested file, by the first of them; undefined if they fit.
 * @param head the first HEAD_BYTES, or all if the file has fewer
 */
export function headFault(path: string, head: Buffer): string | undefined {
  if (!HTML_NAME.test(path) && HTML_START.test(head.toString('utf8'))) return 'is an HTML page';
  const start = STARTS.find(({ names }) => names.test(path));
  return start === undefined || head.subarray(0, start.bytes.length).equals(start.bytes) ? undefined : `is not ${start.what}`;
}

/** A `Content-Range: bytes FIRST-LAST/TOTAL`; undefined for any other form. Source: RFC 9110, 14.4. */
export function parseContentRange(value: string | undefined): { readonly first: number; readonly total: number | undefined } | undefined {
  const [, first, total] = /^bytes (\d{1,15})-\d{1,15}\/(\d{1,15}|\*)$/.exec(value?.trim() ?? '') ?? [];
  return first === undefined ? undefined : { first: Number(first), total: total === '*' ? undefined : Number(total) };
}

/** A number of bytes or seconds in a header; undefined for anything else. */
export function parseCount(value: string | undefined): number | undefined {
  return value !== undefined && /^\d{1,15}$/.test(value.trim()) ? Number(value) : undefined;
}

/** Identifies one state of a file on a server. Source: RFC 9110, 8.8. */
export interface Validator {
  readonly etag?: string;
  readonly lastModified?: string;
}

export function validatorOf(answer: { header(name: string): string | undefined }): Validator {
  const etag = answer.header('etag');
  const lastModified = answer.header('last-modified');
  return { ...(etag !== undefined && { etag }), ...(lastModified !== undefined && { lastModified }) };
}

/** Whether two states are certainly the same: by their ETags if both have one, else by their dates. */
export function isSameState(one: Validator, other: Validator): boolean {
  if (one.etag !== undefined && other.etag !== undefined) return one.etag === other.etag;
  return one.lastModified !== undefined && one.lastModified === other.lastModified;
}

/** The value of If-Range: a strong ETag, else the date. Source: RFC 9110, 13.1.5. */
export function rangeCondition(validator: Validator): string | undefined {
  return validator.etag !== undefined && !validator.etag.startsWith('W/') ? validator.etag : validator.lastModified;
}
