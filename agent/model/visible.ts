/**
 * Characters that affect a terminal, a journal or the reader instead of being visible: C0 except newline and tab, DEL, C1, line separators,
 * and the marks that change the direction of reading. Source: ECMA-48; Unicode Standard Annex 9.
 */
const CONTROL = /(?![\n\t])[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/** The text with each such character written as `\uXXXX`. JSON uses the same notation, so a JSON text remains the same document. */
export function visible(text: string): string {
  return text.replace(CONTROL, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** The same, with newlines and tabs written as `\n` and `\t`: always one line. */
export function visibleLine(text: string): string {
  return visible(text).replaceAll('\n', '\\n').replaceAll('\t', '\\t');
}

/** Whether `visible` would change the text. */
export function hasControls(text: string): boolean {
  return text.search(CONTROL) >= 0;
}
