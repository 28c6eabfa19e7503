/**
 * `data:` URLs as Ignition reads them: RFC 2397 with strict base64; other characters than the unreserved and reserved ones of RFC 2396 must be escaped.
 * Source: ignition docs/configuration-v3_2.md, `contents.source`; github.com/vincent-petithory/dataurl, which Ignition uses.
 */
const DATA_URL = /^data:(?:[A-Za-z0-9!#$&^_.+-]+\/[A-Za-z0-9!#$&^_.+-]+)?(?:;[A-Za-z0-9_.+-]+=[^;,]+)*(?<encoding>;base64)?,(?<data>.*)$/s;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const PERCENT_ENCODED = /^(?:[A-Za-z0-9\-_.!~*'();/?:@&=+$,]|%[0-9A-Fa-f]{2})*$/;

/** Encodes a text for the `source` of a file. */
export function encodeDataUrl(text: string): string {
  return `data:text/plain;charset=utf-8;base64,${Buffer.from(text, 'utf8').toString('base64')}`;
}

/** The content of a `data:` URL, or why it cannot be decoded. */
export function decodeDataUrl(
  url: string,
): { readonly kind: 'bytes'; readonly bytes: Uint8Array } | { readonly kind: 'fault'; readonly message: string } {
  const groups = DATA_URL.exec(url)?.groups;
  if (groups === undefined) return { kind: 'fault', message: 'it does not have the form data:[type][;base64],content' };
  const { data = '', encoding } = groups;
  if (encoding !== undefined) {
    if (!BASE64.test(data)) return { kind: 'fault', message: 'its content is not padded base64' };
    return { kind: 'bytes', bytes: Buffer.from(data, 'base64') };
  }
  if (!PERCENT_ENCODED.test(data)) return { kind: 'fault', message: 'its content has a character that must be written as %XX' };
  return {
    kind: 'bytes',
    bytes: Buffer.from(
      data.replaceAll(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
      'latin1',
    ),
  };
}
