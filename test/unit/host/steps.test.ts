import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { changingActs, crashingAct, loggedAct, plainAct } from '../../../agent/host/acts.ts';
import { crashScenarios } from '../../support/crash/all.ts';
import { pointsOf, stepsTold } from '../../support/crash/points.ts';
import { inLane } from '../../support/crash/sides.ts';

const TOP = join(import.meta.dirname, '../../..');
const names: readonly string[] = Object.values(changingActs).flat();

/** Steps that no test here can reach, and what they need. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'open-verity': 'a kernel with device-mapper',
  'close-verity': 'a kernel with device-mapper',
  'reload-systemd': 'a machine that systemd runs',
};
/** Tests of runs that kill at steps of their own choice. */
const RUN_TESTS = ['test/integration/run/mount-crash.test.ts', 'test/integration/run/registry-crash.test.ts'];

/** The words in single quotes in a text. */
function quotedIn(text: string): readonly string[] {
  return [...text.matchAll(/'([a-z]+(?:-[a-z]+)*)(?::\d+)?'/g)].map((found) => found[1] ?? '');
}

async function sources(directory: string): Promise<readonly string[]> {
  const entries = await readdir(join(TOP, directory), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && entry.name !== 'acts.ts');
  return await Promise.all(files.map(async (entry) => await readFile(join(entry.parentPath, entry.name), 'utf8')));
}

test('each step has one name in one group, and there are 60 at least', () => {
  assert.equal(new Set(names).size, names.length);
  assert.ok(names.length >= 60, `${names.length} steps`);
});

test('each name is that of a step that the agent takes', async () => {
  const used = new Set((await sources('agent')).flatMap(quotedIn));
  assert.deepEqual(
    names.filter((name) => !used.has(name)),
    [],
  );
});

test('a test kills the agent at each step, but for those that need another machine', async () => {
  const texts = await Promise.all(RUN_TESTS.map(async (path) => await readFile(join(TOP, path), 'utf8')));
  const scenarios = new Set(crashScenarios.flatMap(({ steps }): readonly string[] => steps));
  const tried = new Set([...scenarios, ...texts.flatMap(quotedIn)]);
  assert.deepEqual(
    names.filter((name) => !tried.has(name) && ELSEWHERE[name] === undefined),
    [],
  );
  assert.deepEqual(
    Object.keys(ELSEWHERE).filter((name) => scenarios.has(name) || !names.includes(name)),
    [],
  );
});

test('a step ends the process where it is told to, and nowhere else', async () => {
  const deaths: string[] = [];
  for (const point of ['before:load-image:2', 'after:load-image', 'after:load-image:2', 'before:record-end:1']) {
    const passed: string[] = [];
    const act = crashingAct(point, () => deaths.push(`${point} after ${passed.join(' ')}`));
    for (const what of ['first', 'second']) assert.equal(await act('load-image', async () => passed.push(what)), passed.length);
    await act('mount-partition', async () => passed.push('mount'));
  }
  assert.deepEqual(deaths, ['before:load-image:2 after first', 'after:load-image after first', 'after:load-image:2 after first second']);
});

test('a step tells its name to who debugs, and a test reads it from there, also in the journal’s form', async () => {
  const lines: string[] = [];
  const act = loggedAct(plainAct, (severity, message) => lines.push(`${severity}: ${message}`));
  assert.equal(await act('load-image', async () => 7), 7);
  assert.deepEqual(lines, ['debug: step load-image']);
  assert.deepEqual(stepsTold(`warning: x\n${lines[0]}\n<7>step sync-storage\nstep other\n`), ['load-image', 'sync-storage']);
});

test('points are before and after the first time, or on one side of it, and after the last', () => {
  const passed = ['load-image', 'load-image', 'record-end'];
  assert.deepEqual(
    pointsOf(['load-image'], passed, () => ['before']),
    ['before:load-image:1', 'after:load-image:2'],
  );
  assert.deepEqual(
    pointsOf(['load-image', 'record-end'], passed, () => ['before', 'after']),
    ['before:load-image:1', 'after:load-image:1', 'after:load-image:2', 'before:record-end:1', 'after:record-end:1'],
  );
});

test('one of each group is taken if not all are asked for, and never none', () => {
  const points = ['before:a:1', 'after:b:1', 'before:c:1'];
  assert.deepEqual(inLane(points, 2, 'even', false), ['before:a:1', 'before:c:1']);
  assert.deepEqual(inLane(points, 2, 'odd', false), ['after:b:1']);
  assert.deepEqual(inLane(points, 6, 'seventh', false), ['after:b:1']);
  assert.deepEqual(inLane(['before:a:1'], 2, 'odd', false), ['before:a:1']);
  assert.deepEqual(inLane([], 2, 'odd', false), []);
  assert.deepEqual(inLane(points, 2, 'odd', true), points);
});
