import { isDeepStrictEqual } from 'node:util';
import { PrestageError } from '../model/errors.ts';
import { parseRegistries, type RegistriesFile, type RegistryEntry } from './registries-file.ts';
import { markedLines, putAside, withoutRewrite } from './registries-marks.ts';
import { type MirrorDialect, type MirrorRequest, type PlannedEntry, planMirrors, withoutConflicts } from './registries-plan.ts';
import { registryTables, setsKey, type TableLines } from './registries-tables.ts';
import { entryLines, line, mirrorLines } from './registries-toml.ts';
import { mergeRegistries, REGISTRIES_CONF, type RegistriesView } from './registries-view.ts';

/**
 * Rewrites the text of /etc/containers/registries.conf so that our mirrors come first, for `--rewrite`. Comments, order and all lines of others are kept;
 * our lines are between marks, and lines that would contradict them are turned into comments. The lines of an earlier rewrite are replaced, so that the
 * same request gives the same text again. Pure: the caller makes the backup and writes the file.
 * @param text of the file as it is; empty if there is none
 * @param view of the node, as readRegistries returns it
 * @throws PrestageError ERR_REGISTRIES if the file is written in a form that cannot be edited line by line
 */
export function rewriteRegistries(
  text: string,
  view: RegistriesView,
  { request, dialect }: { readonly request: MirrorRequest; readonly dialect: MirrorDialect },
): { readonly text: string; readonly notices: readonly string[] } {
  const original = withoutRewrite(text);
  const before = parseRegistries(original, REGISTRIES_CONF);
  const all = planMirrors(view, request, dialect, REGISTRIES_CONF);
  const isElsewhere = ({ base, entry }: PlannedEntry): boolean => base?.prefix === entry.prefix && base.file !== REGISTRIES_CONF;
  const here = all.planned.filter((item) => !isElsewhere(item));
  const replaced = new Set(here.map(({ entry }) => entry.prefix));
  const untouched = before.entries.filter((entry) => !replaced.has(entry.prefix));
  const { planned, notices } = withoutConflicts({ planned: here, notices: all.notices }, untouched);
  const rewritten = planned.length === 0 ? original : editText(original, before, planned);
  assertMeaning(rewritten, before, planned);
  return { text: rewritten, notices: [...notices, ...all.planned.filter(isElsewhere).flatMap(elsewhereNotice)] };
}

function elsewhereNotice({ base, entry }: PlannedEntry): readonly string[] {
  return base === undefined
    ? []
    : [`${base.file} overrides ${REGISTRIES_CONF} for ${entry.prefix}: leave --rewrite out; otherwise engines do not ask our mirrors`];
}

function editText(text: string, before: RegistriesFile, planned: readonly PlannedEntry[]): string {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  const tables = registryTables(lines);
  if (tables.length !== before.entries.length) throw uneditable('its tables are not written as [[registry]], each on a line of its own');
  const edits = planned.flatMap(({ entry }) => {
    const places = before.entries.flatMap((old, index) => (old.prefix === entry.prefix ? [{ old, table: tables[index] }] : []));
    if (places.length > 1) throw uneditable(`it has more than one [[registry]] for ${entry.prefix}`);
    const [place] = places;
    return place?.table === undefined ? [] : [{ entry, old: place.old, table: place.table }];
  });
  const edited = new Set(edits.map(({ entry }) => entry.prefix));
  const added = planned.map(({ entry }) => entry).filter((entry) => !edited.has(entry.prefix));
  const inserts = new Map(edits.flatMap((edit) => insertsOf(edit, lines)));
  const aside = new Set(edits.flatMap((edit) => linesAside(edit, lines)));
  const result = [...lines, ''].flatMap((content, index) => [
    ...(inserts.get(index) ?? []),
    ...(index === lines.length ? [] : [aside.has(index) ? putAside(content) : content]),
  ]);
  const tail = added.length === 0 ? [] : markedLines(added.flatMap((entry) => ['', ...entryLines(entry)]));
  return `${[...result, ...tail].join('\n')}\n`;
}

interface Edit {
  readonly entry: RegistryEntry;
  readonly old: RegistryEntry;
  readonly table: TableLines;
}

/** Lines of ours, by the number of the line that they are inserted before. */
function insertsOf({ entry, old, table }: Edit, lines: readonly string[]): readonly (readonly [number, readonly string[]])[] {
  const ours = entry.mirrors.slice(0, entry.mirrors.length - old.mirrors.length);
  const theirs = entry.mirrors.slice(ours.length);
  const keys = changedKeys(entry, old).filter(([, value]) => value !== false);
  const [first] = table.mirrors;
  const at = first === undefined ? table.keysEnd : aboveComments(lines, first);
  return [
    ...(keys.length === 0 ? [] : [[table.header + 1, markedLines(keys.map(([key, value]) => line(key, value)))] as const]),
    ...(ours.length === 0 ? [] : [[at, markedLines(mirrorLines(ours))] as const]),
    ...table.mirrors.flatMap((header, index) => {
      const pull = theirs[index]?.pullFromMirror;
      const isSame = pull === undefined || pull === old.mirrors[index]?.pullFromMirror;
      return isSame ? [] : [[header + 1, markedLines([line('pull-from-mirror', pull)])] as const];
    }),
  ];
}

/** Lines of the table's own keys that contradict the planned entry. */
function linesAside({ entry, old, table }: Edit, lines: readonly string[]): readonly number[] {
  const keys = changedKeys(entry, old).map(([key]) => key);
  const own = lines.slice(table.header + 1, table.keysEnd).map((content, index) => ({ content, index: table.header + 1 + index }));
  return own.filter(({ content }) => keys.some((key) => setsKey(content, key))).map(({ index }) => index);
}

function changedKeys(entry: RegistryEntry, old: RegistryEntry): readonly (readonly [string, string | boolean])[] {
  const pairs = [
    ['location', entry.location, old.location],
    ['blocked', entry.blocked, old.blocked],
    ['mirror-by-digest-only', entry.mirrorByDigestOnly, old.mirrorByDigestOnly],
  ] as const;
  return pairs.filter(([, now, then]) => now !== then).map(([key, now]) => [key, now]);
}

/** A comment right above a header belongs to it. */
function aboveComments(lines: readonly string[], header: number): number {
  const above = lines.slice(0, header).findLastIndex((content) => !/^\s*#/.test(content));
  return above + 1;
}

/** Checks that the new text means exactly what is planned, because it was edited line by line. */
function assertMeaning(text: string, before: RegistriesFile, planned: readonly PlannedEntry[]): void {
  const wanted = mergeRegistries([before, { entries: planned.map(({ entry }) => entry), globals: {} }]);
  if (!isDeepStrictEqual(mergeRegistries([parsedAgain(text)]), wanted)) throw uneditable('that would change its other settings');
}

function parsedAgain(text: string): RegistriesFile {
  try {
    return parseRegistries(text, REGISTRIES_CONF);
  } catch (cause) {
    if (!(cause instanceof PrestageError)) throw cause;
    throw uneditable('our mirrors do not fit into its tables', cause);
  }
}

function uneditable(why: string, cause?: PrestageError): PrestageError {
  return new PrestageError(
    'ERR_REGISTRIES',
    `${REGISTRIES_CONF} cannot be rewritten: ${why}`,
    'Leave --rewrite out: the drop-in does the same without touching that file',
    { cause },
  );
}
