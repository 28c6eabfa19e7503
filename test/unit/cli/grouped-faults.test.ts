import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Paint } from '../../../agent/cli/output.ts';
import { pullText } from '../../../agent/cli/pull-command.ts';
import { runText } from '../../../agent/cli/run-command.ts';
import { verifyText } from '../../../agent/cli/verify-command.ts';
import type { PulledImage, PullReport } from '../../../agent/factory/pull/report.ts';
import type { RunState } from '../../../agent/model/run-state.ts';
import type { VerifyReport } from '../../../agent/verify/verify.ts';

const plain: Paint = (_style, text) => text;
const STOP = { code: 'ERR_INTERRUPTED', message: 'the command was interrupted', remedy: 'Run the command again' } as const;
const missing = (name: string): PulledImage => ({
  reference: `quay.io/e/${name}:1`,
  state: 'failed',
  error: {
    code: 'ERR_PULL_MISSING',
    message: `quay.io/e/${name}:1: the registry has no such image: manifest unknown`,
    remedy: 'Correct the list',
  },
});
const pulled = (outcome: PullReport['outcome'], images: readonly PulledImage[]): PullReport => ({
  outcome,
  images,
  fetchBytes: 0,
  keptBytes: 0,
});

test('60 images that a registry does not have are one cause of a pull, and each by itself with --all', () => {
  const images = Array.from({ length: 60 }, (_, index) => missing(`app-${index}`));
  const cause = [
    '  60 failed from quay.io: the registry has no such image: manifest unknown',
    '    quay.io/e/app-0:1',
    '    quay.io/e/app-1:1',
    '    quay.io/e/app-2:1',
    '    … and 57 more: --all or --output json lists all',
    '    ERR_PULL_MISSING; next: Correct the list',
  ];
  assert.deepEqual(pullText(pulled('failed', images), 1000, false).split('\n').slice(1), cause);
  assert.deepEqual(pullText(pulled('planned', images), 1000, false).split('\n').slice(0, -2), cause);
  const all = pullText(pulled('failed', images), 1000, true).split('\n');
  assert.deepEqual(all.slice(1, 4), [
    '  failed quay.io/e/app-0:1',
    '    ERR_PULL_MISSING: quay.io/e/app-0:1: the registry has no such image: manifest unknown',
    '    next: Correct the list',
  ]);
  assert.equal(all.length, 1 + 60 * 3);
});

test('a pull that is interrupted ends in one line, however many images it has not pulled', () => {
  const images = Array.from(
    { length: 200 },
    (_, index): PulledImage => ({ reference: `quay.io/e/${index}:1`, state: 'skipped', error: STOP }),
  );
  assert.equal(
    pullText(pulled('interrupted', [{ reference: 'quay.io/e/a:1', state: 'pulled' }, ...images]), 4000, false),
    'interrupted: 1 pulled, 200 skipped in 4.0 s; 0 B were missing, 0 B already present; next: Run the command again',
  );
});

const state = (rest: Partial<RunState>): RunState => ({
  apiVersion: 'prestage-agent/v1',
  kind: 'RunState',
  agentVersion: '1',
  bootId: 'b',
  pid: 1,
  processStartTicks: 1,
  startedAt: 'T',
  durationMs: 2000,
  stage: 'discovery',
  policy: 'open',
  phase: 'finished',
  bytes: { total: 0, done: 0 },
  notices: [],
  images: [],
  unsynced: [],
  suspect: [],
  ...rest,
});
const skipped = (error: NonNullable<RunState['error']>): RunState['images'] =>
  Array.from({ length: 200 }, (_, index) => ({
    reference: `quay.io/e/${index}:1`,
    names: [],
    digests: [],
    state: 'skipped' as const,
    reason: error.message,
    error,
  }));

test('a run that is interrupted ends in one line', () => {
  assert.equal(
    runText(state({ outcome: 'interrupted', error: STOP, images: skipped(STOP) }), false),
    'interrupted: 200 skipped in 2.0 s (stage discovery); next: Run the command again',
  );
});

test('an error that ends a run is told once, not for each image', () => {
  const error = { code: 'ERR_SPACE_STORAGE', message: 'there is no space', remedy: 'Make room' } as const;
  const images = [...skipped(error), ...skipped({ ...error, code: 'ERR_LOAD', message: 'skopeo failed' })];
  assert.deepEqual(runText(state({ outcome: 'failed', error, images }), false).split('\n'), [
    'failed: 400 skipped in 2.0 s (stage discovery)',
    '  ERR_SPACE_STORAGE: there is no space',
    '  next: Make room',
    '  200 skipped: skopeo failed',
    '    quay.io/e/0:1',
    '    quay.io/e/1:1',
    '    quay.io/e/2:1',
    '    … and 197 more: --all or --output json lists all',
    '    ERR_LOAD; next: Make room',
  ]);
});

test('faults of the same kind in one folder are one cause of verify, and each by itself with --all', () => {
  const fault = (path: string) => ({ path, code: 'ERR_LAYOUT_BLOB' as const, message: 'is not there', remedy: 'Write the bundle again' });
  const report: VerifyReport = {
    isSound: false,
    mode: 'quick',
    what: 'bundle',
    source: 'folder',
    path: '/b',
    architecture: 'amd64',
    images: {},
    payloads: [],
    files: 5,
    bytes: 0,
    notices: [],
    faults: [...['a', 'b', 'c', 'd'].map((name) => fault(`oci/blobs/sha256/${name}`)), { ...fault('x'), message: 'is odd' }],
  };
  const linesOf = (all: boolean) => verifyText(report, { durationMs: 0, all }, plain).split('\n').slice(4);
  assert.deepEqual(linesOf(false), [
    '  4 faulty: is not there',
    '    oci/blobs/sha256/a',
    '    oci/blobs/sha256/b',
    '    oci/blobs/sha256/c',
    '    … and 1 more: --all or --output json lists all',
    '    ERR_LAYOUT_BLOB; next: Write the bundle again',
    '  x: is odd',
    '      ERR_LAYOUT_BLOB; next: Write the bundle again',
  ]);
  assert.equal(linesOf(true).length, 10);
});
