import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { CACHE, TOP } from './cache.ts';

/** Commands that try something many times, by the name of the npm script after `test:`. */
const figureKinds = ['crash', 'kills', 'power', 'faults', 'soak', 'vm'] as const;
export type FigureKind = (typeof figureKinds)[number];

/** What came of trying something many times. */
export interface Figures {
  readonly scenario: string;
  /** Times that it struck. */
  readonly tried: number;
  /** Of these, where what was disturbed came to its end by itself. */
  readonly recovered: number;
  readonly lost: number;
}

const keptSchema = v.object({
  kind: v.picklist(figureKinds),
  scenario: v.string(),
  tried: v.number(),
  recovered: v.number(),
  lost: v.number(),
  /** When it was tried, ISO 8601. */
  at: v.string(),
  /** Of the sources that were tried; with a plus where those of the agent had been changed since. */
  commit: v.string(),
});

/** Figures as they are kept until the same is tried again. */
export type KeptFigures = v.InferOutput<typeof keptSchema>;

const KEPT = join(CACHE, 'figures');

/** Keeps figures for the report of the boot tests, one file for each scenario that was tried: a run of one of them leaves those of the others. */
export async function keepFigures(kind: FigureKind, figures: readonly Figures[], directory = KEPT): Promise<void> {
  const common = { kind, at: new Date().toISOString(), commit: await commitOfSources() };
  await mkdir(directory, { recursive: true });
  for (const { scenario, tried, recovered, lost } of figures.filter((one) => one.tried > 0)) {
    const kept: KeptFigures = { ...common, scenario, tried, recovered, lost };
    const name = `${kind}-${scenario.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}.json`;
    await writeFile(join(directory, name), `${JSON.stringify(kept)}\n`);
  }
}

/** All that is kept; nothing where nothing was tried yet. */
export async function readFigures(directory = KEPT): Promise<readonly KeptFigures[]> {
  const names = (await readdir(directory).catch(() => [])).filter((name) => name.endsWith('.json')).toSorted();
  return await Promise.all(names.map(async (name) => v.parse(keptSchema, JSON.parse(await readFile(join(directory, name), 'utf8')))));
}

/** `unknown` outside of a checkout, and without git. */
export async function commitOfSources(): Promise<string> {
  try {
    const head = await output(execOnLinux, 'git', ['-C', TOP, 'rev-parse', '--short=10', 'HEAD']);
    const changes = await output(execOnLinux, 'git', ['-C', TOP, 'status', '--porcelain', '--', 'agent', 'build', 'build.mjs']);
    return `${head.trim()}${changes === '' ? '' : '+'}`;
  } catch {
    return 'unknown';
  }
}
