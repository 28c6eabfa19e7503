/** A command of this program in a code block of a guide. */
export interface PrintedCommand {
  /** Without prompt, comment and trailing space. */
  readonly text: string;
  /** From 1. */
  readonly line: number;
}

/** The commands that begin with `prestage-agent` in the code blocks of a document. Pure. */
export function printedCommands(markdown: string): readonly PrintedCommand[] {
  let isCode = false;
  return markdown.split('\n').flatMap((content, index) => {
    if (content.startsWith('```')) isCode = !isCode;
    const text = content.replace(/\s+#.*$/, '').trim();
    return isCode && text.startsWith('prestage-agent ') ? [{ text, line: index + 1 }] : [];
  });
}
