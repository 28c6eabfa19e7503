import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoredImage } from '../../agent/extract/storage.ts';
import { digestOf } from '../../agent/model/digest.ts';
import type { ImageState, RunState } from '../../agent/model/run-state.ts';
import { assessRun, type StatusFacts } from '../../agent/status/assess.ts';

const error = { code: 'ERR_LOAD', message: 'skopeo could not load b', remedy: 'Look at the disk' } as const;
const image = (reference: string, state: ImageState['state'], rest: Partial<ImageState> = {}): ImageState => ({
  reference,
  names: [reference],
  digests: [digestOf(reference)],
  state,
  ...rest,
});
const stored = (reference: string, damage: readonly string[] = []): StoredImage => ({
  id: reference,
  names: [reference],
  digests: [digestOf(reference)],
  damage,
});
const run = (rest: Partial<RunState> = {}): RunState => ({
  apiVersion: 'prestage-agent/v1',
  kind: 'RunState',
  agentVersion: '1',
  bootId: 'b1',
  pid: 7,
  processStartTicks: 2,
  startedAt: 'T',
  stage: 'installed',
  policy: 'open',
  phase: 'finished',
  outcome: 'complete',
  bytes: { total: 1, done: 1 },
  notices: [],
  images: [image('a', 'loaded'), image('b', 'present')],
  unsynced: [],
  suspect: [],
  ...rest,
});
const unfinished = (): RunState => {
  const { outcome: _, ...rest } = run({ phase: 'loading' });
  return rest;
};
const facts = (rest: Partial<StatusFacts> = {}): StatusFacts => ({
  state: run(),
  isDamaged: false,
  isAlive: false,
  isSameBoot: true,
  storage: { kind: 'seen', contents: { images: [stored('a'), stored('b')], layers: new Set() } },
  registry: undefined,
  verified: undefined,
  ...rest,
});
const verdict = (rest: Partial<StatusFacts>) => {
  const { readiness, reason, exitCode } = assessRun(facts(rest)).status;
  return [readiness, reason, exitCode];
};

test('a machine on which nothing has run says so', () => {
  const { status } = assessRun(facts({ state: undefined }));
  assert.deepEqual([status.readiness, status.exitCode, status.run, status.images], ['never-run', 10, undefined, []]);
});

test('a record that is damaged is told from none', () => {
  assert.equal(assessRun(facts({ state: undefined, isDamaged: true })).status.reason, 'the record of the last run is damaged');
});

test('all images in storage is ready', () => {
  assert.deepEqual(verdict({}), ['ready', 'all 2 images are in storage', 0]);
});

test('a run that goes on is unfinished', () => {
  assert.deepEqual(verdict({ state: unfinished(), isAlive: true }), ['running', 'the run of process 7 goes on (loading)', 10]);
});

test('a run whose process is gone was interrupted', () => {
  assert.deepEqual(verdict({ state: unfinished() }), [
    'interrupted',
    'the run that began at T ended without a word (process 7 is gone) (loading)',
    11,
  ]);
});

test('a run of another boot was interrupted by it', () => {
  assert.deepEqual(verdict({ state: unfinished(), isSameBoot: false }), [
    'interrupted',
    'the run that began at T was cut off by a reboot or a power cut (loading)',
    11,
  ]);
});

test('a run that was asked to end was interrupted', () => {
  assert.deepEqual(verdict({ state: run({ outcome: 'interrupted' }) }), [
    'interrupted',
    'the run that began at T was asked to end (finished)',
    11,
  ]);
});

test('an image that has vanished since makes the node partial, and says what to do', () => {
  const report = assessRun(facts({ storage: { kind: 'seen', contents: { images: [stored('a')], layers: new Set() } } }));
  assert.deepEqual(
    [report.status.readiness, report.status.exitCode, report.status.nextStep, report.status.images[1]],
    [
      'partial',
      3,
      'Load what is missing: prestage-agent run --stage installed',
      { ...image('b', 'missing'), reason: 'it has vanished from storage since the run' },
    ],
  );
});

test('an image that is damaged now is missing, with the damage', () => {
  const { status } = assessRun(
    facts({ storage: { kind: 'seen', contents: { images: [stored('a'), stored('b', ['its layer is gone'])], layers: new Set() } } }),
  );
  assert.equal(status.images[1]?.reason, 'it is damaged: its layer is gone');
});

test('storage that cannot be read leaves what the run left', () => {
  const { status } = assessRun(facts({ storage: { kind: 'unknown', reason: 'not root' } }));
  assert.deepEqual([status.readiness, status.storageChecked], ['ready', false]);
});

test('a failed image is the reason, and its remedy the next step', () => {
  const { status } = assessRun(
    facts({ state: run({ outcome: 'partial', images: [image('a', 'loaded'), image('b', 'failed', { reason: error.message, error })] }) }),
  );
  assert.deepEqual(
    [status.readiness, status.reason, status.nextStep, status.lastError],
    ['partial', '1 of 2 images can be used; first: b: skopeo could not load b', 'Look at the disk', error],
  );
});

test('an image without a reason is named by its state', () => {
  assert.deepEqual(verdict({ state: run({ outcome: 'failed', images: [image('c', 'skipped')] }) }), [
    'failed',
    '0 of 1 images can be used; first: c: skipped',
    4,
  ]);
});

test('an error of the whole run decides, with its own exit code', () => {
  const missing = { code: 'ERR_PARTITION_MISSING', message: 'no partition', remedy: 'Attach it' } as const;
  assert.deepEqual(verdict({ state: run({ outcome: 'failed', images: [], error: missing }) }), ['failed', 'no partition', 5]);
  assert.deepEqual(verdict({ state: run({ outcome: 'complete', error: missing }) }), ['failed', 'no partition', 5]);
  assert.deepEqual(verdict({ state: run({ error: missing, store: STORE }) }), ['degraded', 'no partition', 5]);
});

test('with some images loaded, an error of the run leaves it partial', () => {
  assert.equal(verdict({ state: run({ outcome: 'partial', error, images: [image('a', 'loaded'), image('b', 'failed')] }) })[0], 'partial');
});

const STORE: NonNullable<RunState['store']> = {
  path: '/store',
  image: '/image',
  sha256: 'ab'.repeat(32),
  trust: 'background',
  trustReason: 'r',
  placement: 'partition',
  verified: 'pending',
};

test('what was found out of a store after the run stands in the status', () => {
  const state = run({ store: STORE });
  assert.equal(assessRun(facts({ state })).status.run?.store?.verified, 'pending');
  assert.equal(assessRun(facts({ state, verified: 'yes' })).status.run?.store?.verified, 'yes');
});

test('images that are served count as long as the registry answers', () => {
  const state = run({ images: [image('a', 'served'), image('b', 'served')] });
  const mixed = run({ images: [image('a', 'served'), image('b', 'present')] });
  const healthy = { healthy: true, reason: 'it answers' };
  assert.deepEqual(verdict({ state, registry: healthy }), ['ready', 'all 2 images are served', 0]);
  assert.deepEqual(verdict({ state: mixed, registry: healthy }), ['ready', 'all 2 images are in storage or served', 0]);
  assert.deepEqual(verdict({ state, registry: { healthy: false, reason: 'refused' } }), [
    'failed',
    '0 of 2 images can be used; first: a: the registry that serves it does not answer: refused',
    4,
  ]);
});

test('a node whose images are there and whose registry does not answer is degraded', () => {
  const state = run({ registry: { address: '127.0.0.1:305', how: 'unit', tree: '/mirror', image: 'registry' } });
  const { status } = assessRun(facts({ state, registry: { healthy: false, reason: 'refused' } }));
  assert.deepEqual(
    [status.readiness, status.reason, status.nextStep, status.exitCode],
    ['degraded', 'the registry at 127.0.0.1:305 does not answer: refused', 'Start it again: prestage-agent run --stage installed', 3],
  );
});

test('a node that was healed is degraded, and says what was done', () => {
  const gone = { code: 'ERR_ARCHIVE_MISSING', message: 'the store image is gone', remedy: 'Write the bundle again' } as const;
  const healed = run({ outcome: 'failed', error: gone, images: [], healed: ['the empty store is in place', '2 records removed'] });
  assert.deepEqual(verdict({ state: healed }), [
    'degraded',
    'the store image is gone; so that engines work: the empty store is in place, 2 records removed',
    6,
  ]);
  assert.deepEqual(verdict({ state: run({ outcome: 'failed', error: gone, images: [], healed: [] }) }), [
    'degraded',
    'the store image is gone',
    6,
  ]);
  assert.deepEqual(verdict({ state: run({ error: gone }) }), ['degraded', 'the store image is gone', 6]);
});

test('a node that was released says so', () => {
  assert.deepEqual(verdict({ state: run({ releasedAt: 'T2' }) }), ['released', 'what was set up here was taken back at T2', 10]);
});
