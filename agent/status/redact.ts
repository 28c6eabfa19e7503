/** Replaces a secret. */
const REDACTED = '[redacted]';

/** Shorter secrets would match parts of ordinary words. */
const SHORTEST_SECRET = 6;

/** A longer text is not a name; the limit keeps the search linear. */
const NAME = String.raw`[\w.-]{0,64}`;
/** A key whose value is a secret, as in JSON, YAML, TOML, INI, environment files and command lines. `auth` only as a word: `unauthorized: …` says why a pull failed. */
const SECRET_KEY = String.raw`(?:${NAME}(?:passwd|password|passphrase|secret|token|credential|api[_-]?key|private[_-]?key|access[_-]?key)${NAME}|${NAME}\bauth|_auth|(?:proxy-)?authorization)`;
/** A quoted value, even if its quote is not closed in the line, or all text up to a delimiter: passwords may have blanks. */
const VALUE = String.raw`(?:(")(?:[^"\\\n]|\\.)*"?|(')[^'\n]*'?|[^"',;{}[\]&\n\s][^"',;}\]&\n]*)`;

/** Does not match inside a path: names of images can contain these words, too. */
const KEYS = new RegExp(
  String.raw`((?<![\w./@-])["']?${SECRET_KEY}(["']?)[ \t]*[:=])(?![ \t]*(?:["']?\[redacted\]|(?:Basic|Bearer|Negotiate)\b))([ \t]*)${VALUE}`,
  'gi',
);

const RULES: readonly ((text: string) => string)[] = [
  // RFC 7468; also keys cut off at their end or beginning, and keys in a JSON string or a data URL, where a line ends with \n or %0A, or in base64.
  (text) => text.replace(/-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----[\s\S]*?(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----|$)/g, REDACTED),
  (text) => text.replace(/^(?:(?!-----BEGIN )[\s\S])*?-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----/, REDACTED),
  (text) => text.replace(/-----BEGIN(?:(?:%20|\+)[A-Z0-9]+)*(?:%20|\+)PRIVATE(?:%20|\+)KEY-----[^\s"']*/gi, REDACTED),
  (text) => text.replace(/LS0tLS1CRUdJTi[A-Za-z0-9+/=]+/g, REDACTED),
  // RFC 3986, 3.2.1: user information of an address.
  (text) => text.replace(/\b([a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/@"'<>]+@/gi, `$1${REDACTED}@`),
  // RFC 9110, 11.4, in a header.
  (text) => text.replace(/\b(Basic|Bearer|Negotiate)[ \t]+[A-Za-z0-9+/._~=-]{8,}/gi, `$1 ${REDACTED}`),
  // RFC 7519: three parts of base64url, the first of which starts like a JSON object.
  (text) => text.replace(/\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g, REDACTED),
  (text) => text.replace(KEYS, hideValue),
];

/**
 * Hides secrets in a text: known ones, and whatever looks like one (private keys, user information in addresses, authorization headers, tokens,
 * values of keys named after a secret). When in doubt, it hides. JSON stays valid JSON. Pure.
 * @param known secrets of this machine, as they appear in texts
 */
export function redact(text: string, known: readonly string[]): string {
  const literals = known.filter((secret) => secret.length >= SHORTEST_SECRET).toSorted((a, b) => b.length - a.length);
  const without = literals.reduce((rest, secret) => rest.replaceAll(secret, REDACTED), text);
  return RULES.reduce((rest, rule) => rule(rest), without);
}

/** If the key has quotes, the replacement gets quotes, too, so that JSON stays valid. */
function hideValue(_: string, key: string, keyQuote: string, blank: string, double = '', single = ''): string {
  const quote = double || single || keyQuote;
  return `${key}${blank}${quote}${REDACTED}${quote}`;
}
