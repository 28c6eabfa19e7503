/** A line of a text file. */
export interface TextLine {
  /** Without its line end. */
  readonly content: string;
  /** From 1. */
  readonly line: number;
}

/** The lines of a text file, without the byte order mark; LF, CRLF and CR end a line, as an editor counts them. */
export function linesOf(text: string): readonly TextLine[] {
  return text
    .replace(/^\uFEFF/, '')
    .split(/\r\n|\n|\r/)
    .map((content, index) => ({ content, line: index + 1 }));
}
