import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as v from 'valibot';

const { scripts } = v.parse(v.object({ scripts: v.record(v.string(), v.string()) }), JSON.parse(readFileSync('package.json', 'utf8')));
const files = globSync(['test/unit/**/*.test.ts', 'test/hostile/**/*.test.ts']).toSorted();
const PROGRAMS = /from '(?:node:child_process|execa|.*\/agent\/host\/exec\.ts)'/;

test('no file of the lane of seconds imports what starts programs', () => {
  assert.ok(files.length > 90, `${files.length}`);
  const starting = files.filter((file) => PROGRAMS.test(readFileSync(file, 'utf8')));
  assert.deepEqual(starting, []);
});

test('Node itself refuses to start a program in the lane of seconds, also if the agent asks for it', () => {
  const flags = scripts.unit?.split(' ') ?? [];
  assert.ok(flags.includes('--permission'), scripts.unit);
  assert.ok(!flags.includes('--allow-child-process'), scripts.unit);
});

test('no hook of the lane of seconds stands before or after each test of other files, which share its process', () => {
  const shared = files.filter((file) => /^(?:beforeEach|afterEach)\(/m.test(readFileSync(file, 'utf8')));
  assert.deepEqual(shared, []);
});
