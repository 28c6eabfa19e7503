import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { dirname, normalize } from 'node:path/posix';

/** What a check asks about the repository; all paths are relative to its top. */
export interface Tree {
  /** Whether a file or folder of this path exists; `*` and `{a,b}` as in a shell. */
  readonly has: (path: string) => boolean;
  readonly textOf: (path: string) => string;
}

/** A path below a folder of this repository, as texts name it: not part of a longer path or of a URL, and not the target of a link. */
const PATH = /(?<![\w./@:-]|\]\()(?:agent|docs|test|ignition-templates)\/(?:[\w.*{},/-]*[\w*}/])?/g;

/**
 * Relative links of a document that lead to no file or to no heading, and paths in its text, in code too, that do not exist; each as
 * `NAME:LINE: FAULT`. A folder in capitals stands for any (`test/unit/ROOM`). Addresses on the network are not looked at.
 */
export function linkFaults(name: string, tree: Tree): readonly string[] {
  const text = tree.textOf(name);
  const links = linksIn(text).flatMap(({ href, line }) => {
    const fault = linkFault(name, href, tree);
    return fault === undefined ? [] : [{ line, fault }];
  });
  const paths = text.split('\n').flatMap((content, index) =>
    [...content.matchAll(PATH)].flatMap(([path]) => {
      const pattern = path.replaceAll(/(?<=\/)[A-Z]+(?=\/|$)/g, '*');
      return tree.has(pattern) ? [] : [{ line: index + 1, fault: `${path} does not exist` }];
    }),
  );
  return [...links, ...paths].toSorted((a, b) => a.line - b.line).map(({ line, fault }) => `${name}:${line}: ${fault}`);
}

function linkFault(name: string, href: string, tree: Tree): string | undefined {
  if (/^[a-z][a-z0-9+.-]*:/i.test(href)) return undefined;
  const [target = '', anchor] = href.split('#').map(decodeURIComponent);
  const path = target === '' ? name : normalize(`${dirname(name)}/${target}`);
  if (target.startsWith('/') || path.startsWith('../')) return `the link to ${href} leads out of the repository`;
  if (!tree.has(path)) return `the link to ${href} leads to no file: ${path} does not exist`;
  if (anchor === undefined || !path.endsWith('.md') || anchorsOf(tree.textOf(path)).has(anchor)) return undefined;
  return `the link to ${href} leads to no heading of ${path}`;
}

/** A link or image, and a definition of a link; the target is the only group. A link lies on one line here, as sentences do. */
const INLINE = /\]\(\s*<?([^\s()<>]+)>?(?:\s+"[^"]*")?\s*\)/g;
const DEFINITION = /^ {0,3}\[[^\]]+\]:\s*<?([^\s<>]+)>?/g;

/** Targets of links and images, with the line of each. */
function linksIn(text: string): readonly { readonly href: string; readonly line: number }[] {
  return withoutFences(text).flatMap((line, index) => {
    const prose = line.replaceAll(/(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)/g, '');
    return [INLINE, DEFINITION].flatMap((link) => [...prose.matchAll(link)].map(([, href = '']) => ({ href, line: index + 1 })));
  });
}

/** Anchors that GitHub gives the headings of a document: a repeated one gets a number. */
function anchorsOf(text: string): ReadonlySet<string> {
  const anchors = new Set<string>();
  for (const line of withoutFences(text)) {
    const heading = /^ {0,3}#{1,6}\s+(.*)$/.exec(line)?.[1];
    if (heading === undefined) continue;
    const slug = heading
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{M}\p{N}\p{Pc} -]/gu, '')
      .trim()
      .replaceAll(' ', '-');
    let anchor = slug;
    for (let count = 1; anchors.has(anchor); count += 1) anchor = `${slug}-${count}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** The lines of a document; those of fenced blocks are empty. */
function withoutFences(text: string): readonly string[] {
  let fence: string | undefined;
  return text.split('\n').map((line) => {
    const mark = /^\s*(```+|~~~+)/.exec(line)?.[1];
    if (mark !== undefined && fence === undefined) fence = mark;
    else if (mark !== undefined && fence !== undefined && mark.startsWith(fence)) fence = undefined;
    return fence === undefined && mark === undefined ? line : '';
  });
}

if (import.meta.main) {
  const tree = { has: (path: string) => globSync(path).length > 0, textOf: (path: string) => readFileSync(path, 'utf8') };
  const ignored = ['node_modules', 'dist', 'coverage', '.cache', join('test', 'golden')];
  const faults = globSync(['**/*.md', '.github/**/*.md'], { exclude: ignored }).flatMap((name) => linkFaults(name, tree));
  for (const fault of faults) process.stderr.write(`${fault}\n`);
  if (faults.length > 0)
    process.stderr.write('Correct these links and paths. Give the path of a file in another project from the name of that project on.\n');
  process.exitCode = faults.length > 0 ? 1 : 0;
}
