import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { test } from 'node:test';

const TOP = join(import.meta.dirname, '../../..');
/** The one place that removes trees, and the words of the operator in a unit's README. */
const HOME = 'agent/host/remove-tree.ts';

interface Source {
  readonly path: string;
  readonly text: string;
}

async function sources(): Promise<readonly Source[]> {
  const entries = await readdir(join(TOP, 'agent'), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && /\.(ts|sh|service|container)$/.test(entry.name));
  const all = files.map(async (entry) => {
    const path = join(entry.parentPath, entry.name);
    return { path: relative(TOP, path), text: await readFile(path, 'utf8') };
  });
  return (await Promise.all(all)).filter(({ path }) => path !== HOME);
}

/** What stands between the parentheses of each call of a function. */
function argumentsOf(text: string, name: RegExp): readonly string[] {
  return [...text.matchAll(name)].map((call) => {
    const from = call.index + call[0].length;
    let depth = 1;
    let end = from;
    for (; depth > 0 && end < text.length; end++) {
      if (text[end] === '(') depth++;
      if (text[end] === ')') depth--;
    }
    return text.slice(from, end - 1);
  });
}

/** What follows the first argument; '' when there is nothing. */
function optionsIn(given: string): string {
  let flat = given;
  for (let before = ''; before !== flat; ) {
    before = flat;
    flat = flat.replaceAll(/\([^()]*\)|\[[^[\]]*\]|`[^`]*`/g, '');
  }
  return flat.includes(',')
    ? flat
        .slice(flat.indexOf(',') + 1)
        .trim()
        .replace(/,$/, '')
    : '';
}

/** Ways to remove a tree, or to copy one, that go by paths. */
function waysIn({ text }: Source): readonly string[] {
  // A removal of one file has no options, or these alone, written where it is called.
  const removals = argumentsOf(text, /(?<![\w.-])rm(?:Sync)?\(/g).filter((given) => !['', '{ force: true }'].includes(optionsIn(given)));
  const directories = argumentsOf(text, /(?<![\w.-])rmdir(?:Sync)?\(/g).filter((given) => optionsIn(given) !== '');
  const copies = argumentsOf(text, /(?<![\w.-])cp(?:Sync)?\((?!1\))/g);
  const imports =
    text.match(
      /import (?!\{ outputFile \} from)[^;]*from 'fs-extra[^']*'|from '(?:rimraf|del)[^']*'|import \* as \w+ from 'node:fs[^']*'|import \w+ from 'node:fs[^']*'|\brm(?:Sync)? as \w+/g,
    ) ?? [];
  const programs = text.match(/(?<![\w-])rm (?:-\w*[rR]\w*|--recursive)|'rm',\s*\[?\s*'-\w*[rR]|find [^\n]*-delete/g) ?? [];
  return [...removals, ...directories, ...copies, ...imports, ...programs];
}

test('nothing in agent/ removes or copies a tree but the one function for it', async () => {
  const found = (await sources()).flatMap((source) => waysIn(source).map((way) => `${source.path}: ${way}`));
  assert.deepEqual(found, []);
});

for (const text of [
  'await rm(path, { recursive: true, force: true });',
  "await rm(join(a, 'b'), {\n  force: true,\n  recursive: true,\n});",
  'rmSync(path, options);',
  'await rmdir(path, { recursive: true });',
  'await cp(from, to, { recursive: true });',
  "import { remove } from 'fs-extra/esm';",
  "import * as fs from 'node:fs/promises';",
  "import fs from 'node:fs';",
  "import { rm as gone } from 'node:fs/promises';",
  "await host.exec('sh', ['-c', 'rm -rf \"$0\"', path]);",
  "await host.exec('rm', ['-fr', path]);",
  "'find . -delete'",
]) {
  test(`this would be found: ${text}`, () => {
    assert.equal(waysIn({ path: '', text }).length >= 1, true);
  });
}

for (const text of [
  'await rm(path, { force: true });',
  'await rm(join(a, b));',
  'await rmdir(path);',
  "podman(['rm', '--force'])",
  'rm -f "$T.tmp"',
]) {
  test(`and this not: ${text}`, () => {
    assert.deepEqual(waysIn({ path: '', text }), []);
  });
}
