import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';

const TOP = join(import.meta.dirname, '../../..');
/** Rooms that hold no files of their own, only rooms. */
const HALLS: ReadonlySet<string> = new Set(['factory', 'registry']);
const LONGEST_LINES = 300;

interface Source {
  /** Relative to agent/. */
  readonly path: string;
  readonly text: string;
}

/** A room, and the rooms that it may import from. */
type Table = readonly (readonly [room: string, uses: readonly string[]])[];

async function readSources(): Promise<readonly Source[]> {
  const folder = join(TOP, 'agent');
  const paths = (await readdir(folder, { recursive: true })).filter((path) => path.endsWith('.ts'));
  return await Promise.all(paths.map(async (path) => ({ path, text: await readFile(join(folder, path), 'utf8') })));
}

function roomOf(path: string): string {
  const [first = '', second = ''] = path.split('/');
  return HALLS.has(first) ? `${first}/${second}` : first;
}

/** The rooms that each room imports from, for whatever reason: values, types, `import()`. */
function arrowsOf(sources: readonly Source[]): ReadonlyMap<string, ReadonlySet<string>> {
  const arrows = new Map<string, Set<string>>();
  for (const { path, text } of sources) {
    const room = roomOf(path);
    const uses = arrows.get(room) ?? new Set();
    arrows.set(room, uses);
    for (const [, specifier = ''] of text.matchAll(/(?:\bfrom|\bimport\(?)\s*'(\.[^']+)'/g)) {
      const used = roomOf(join(dirname(path), specifier));
      if (used !== room) uses.add(used);
    }
  }
  return arrows;
}

/** The table below "## Rooms" of ARCHITECTURE.md. */
async function readTable(): Promise<Table> {
  const text = await readFile(join(TOP, 'ARCHITECTURE.md'), 'utf8');
  const [, section = ''] = /\n## Rooms\n(.*?)\n## /s.exec(text) ?? [];
  const rows = [...section.matchAll(/^\| (\S+) \| [^|]+ \| ([^|]+) \|$/gm)].filter(([, room]) => room !== 'room');
  return rows.map(([, room = '', uses = '']) => [room, uses === '–' ? [] : uses.split(', ')]);
}

/** Arrows of the table that do not lead down. */
function upwards(table: Table): readonly string[] {
  const above = new Set<string>();
  return table.flatMap(([room, uses]) => {
    above.add(room);
    return uses.filter((used) => above.has(used)).map((used) => `${room} -> ${used}`);
  });
}

test('rooms import from the rooms that ARCHITECTURE.md names, and from no others', async () => {
  const arrows = arrowsOf(await readSources());
  const table = await readTable();
  const order = table.map(([room]) => room);
  const found = [...arrows].map(([room, uses]) => [room, [...uses].sort((a, b) => order.indexOf(a) - order.indexOf(b))] as const);
  assert.deepEqual(
    found.toSorted(([a], [b]) => order.indexOf(a) - order.indexOf(b)),
    table,
  );
});

test('imports between rooms lead down only, so there is no circle of rooms', async () => {
  assert.deepEqual(upwards(await readTable()), []);
});

test('an arrow that leads up is found', () => {
  const table: Table = [
    ['cli', ['host', 'model']],
    ['host', ['cli']],
    ['model', []],
  ];
  assert.deepEqual(upwards(table), ['host -> cli']);
});

test('every form of an import is an arrow', () => {
  const text = `
    import type { A } from '../model/a.ts';
    import { b } from '../factory/pull/b.ts';
    export { c } from '../registry/serve/c.ts';
    const d = await import('../engine/d.ts');
    import '../assets.ts';
    import { own } from './own.ts';`;
  const [uses] = arrowsOf([{ path: 'cli/x.ts', text }]).values();
  assert.deepEqual([...(uses ?? [])], ['model', 'factory/pull', 'registry/serve', 'engine', 'assets.ts']);
});

test(`no file of agent/ has more than ${LONGEST_LINES} lines`, async () => {
  const long = (await readSources()).filter(({ text }) => text.trimEnd().split('\n').length > LONGEST_LINES);
  assert.deepEqual(
    long.map(({ path }) => relative('', path)),
    [],
  );
});
