/** The place of a `[[registry]]` table among the lines of a registries.conf. Line numbers start at 0, ends are exclusive. */
export interface TableLines {
  /** Its header. */
  readonly header: number;
  /** Behind its own keys. */
  readonly keysEnd: number;
  /** The headers of its `[[registry.mirror]]` tables. */
  readonly mirrors: readonly number[];
}

const REGISTRY = /^\s*\[\[\s*registry\s*\]\]/;
const MIRROR = /^\s*\[\[\s*registry\s*\.\s*mirror\s*\]\]/;
const HEADER = /^\s*\[/;

/**
 * Finds the `[[registry]]` tables in their order. It looks at lines only: in a value of several lines, a line that begins with `[` is taken for a
 * header. So a caller that edits the text must parse the result. Source: TOML 1.0, "Array of Tables".
 */
export function registryTables(lines: readonly string[]): readonly TableLines[] {
  const headers = lines.flatMap((line, index) => (HEADER.test(line) ? [index] : []));
  const starts = headers.filter((index) => REGISTRY.test(lines[index] ?? ''));
  return starts.map((header, nth) => {
    const until = starts[nth + 1] ?? lines.length;
    const next = headers.find((index) => index > header) ?? lines.length;
    return {
      header,
      keysEnd: behindContent(lines, header, next),
      mirrors: headers.filter((index) => index > header && index < until && MIRROR.test(lines[index] ?? '')),
    };
  });
}

/** Whether a line sets a key, bare or quoted. */
export function setsKey(line: string, key: string): boolean {
  const [first = ''] = line.split('=', 1);
  return line.includes('=') && [key, `"${key}"`, `'${key}'`].includes(first.trim());
}

/** Comments and empty lines before the next header belong to that header. */
function behindContent(lines: readonly string[], from: number, until: number): number {
  const last = lines.slice(from, until).findLastIndex((line) => !/^\s*(?:#|$)/.test(line));
  return from + last + 1;
}
