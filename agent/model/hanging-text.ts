/** Columns of a console. */
const COLUMNS = 80;

/**
 * A text with a head, in lines of at most 80 columns; the lines after the first are indented. What is in backticks stays on one line, because a
 * person copies it, and so does a longer word. Pure.
 */
export function hangingText(head: string, text: string, indent: number): string {
  const lines: string[] = [];
  let line = head;
  let isEmpty = true;
  for (const [word] of text.matchAll(/\S*`[^`]*`\S*|\S+/g)) {
    if (!isEmpty && line.length + 1 + word.length > COLUMNS) {
      lines.push(line);
      line = ' '.repeat(indent);
      isEmpty = true;
    }
    line += isEmpty ? word : ` ${word}`;
    isEmpty = false;
  }
  return [...lines, line].join('\n');
}
