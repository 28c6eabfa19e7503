import { type ErrorCode, PrestageError } from '../model/errors.ts';

/** Remedy for an archive whose content is refused. */
const REWRITE_ARCHIVE = 'Write the archive again at the factory';

/** The error for a refused archive; the message starts with the archive's path. */
export function archiveFault(code: ErrorCode, path: string, what: string, cause?: unknown): PrestageError {
  return new PrestageError(code, `${path}: ${what}`, REWRITE_ARCHIVE, cause === undefined ? undefined : { cause });
}

/** Prepares a member name or other hostile text for a message: quoted, with control characters escaped, and shortened. */
export function quoteText(text: string): string {
  const escaped = JSON.stringify(text).replaceAll(
    /[\u007f-\u009f\u2028\u2029\ufffd]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return escaped.length <= 160 ? escaped : `${escaped.slice(0, 160)}…"`;
}
