import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../../../agent/model/digest.ts';
import { countStates, type ImageState, outcomeOf, parseRunState, type RunState, suspectAfter } from '../../../agent/model/run-state.ts';

const state: RunState = {
  apiVersion: 'prestage-agent/v1',
  kind: 'RunState',
  agentVersion: '1',
  bootId: 'b1',
  pid: 1,
  processStartTicks: 2,
  startedAt: 'then',
  stage: 'discovery',
  policy: 'open',
  phase: 'loading',
  bytes: { total: 1, done: 0 },
  notices: [],
  images: [
    { reference: 'a', names: ['a'], digests: [digestOf('a')], state: 'failed', error: { code: 'ERR_LOAD', message: 'm', remedy: 'r' } },
  ],
  unsynced: ['a'],
  suspect: [],
};
const states = (...names: readonly ImageState['state'][]) => names.map((name) => ({ state: name }));

test('a state comes back from its file as it was', () => {
  assert.deepEqual(parseRunState(JSON.stringify(state)), state);
});

test('what is cut off, of another version or with unknown words is no state', () => {
  const text = JSON.stringify(state);
  assert.equal(parseRunState(text.slice(0, 40)), undefined);
  assert.equal(parseRunState(text.replace('/v1', '/v9')), undefined);
  assert.equal(parseRunState(text.replace('ERR_LOAD', 'ERR_NEVER')), undefined);
  assert.equal(parseRunState(text.replace(digestOf('a'), 'sha256:1')), undefined);
  assert.equal(parseRunState(text.replace(`"${digestOf('a')}"`, '7')), undefined);
});

test('what another boot left unsynced is suspect, what this boot did is not', () => {
  assert.deepEqual(suspectAfter(state, 'b2'), ['a']);
  assert.deepEqual(suspectAfter(state, 'b1'), []);
  assert.deepEqual(suspectAfter(undefined, 'b1'), []);
});

test('what was suspect before stays so until it has been loaded again', () => {
  assert.deepEqual(suspectAfter({ ...state, suspect: ['z', 'a'] }, 'b2'), ['z', 'a']);
  assert.deepEqual(suspectAfter({ ...state, suspect: ['z'] }, 'b1'), ['z']);
});

test('a run is complete, partial or failed by its images', () => {
  assert.equal(outcomeOf([]), 'complete');
  assert.equal(outcomeOf(states('present', 'loaded')), 'complete');
  assert.equal(outcomeOf(states('present', 'failed')), 'partial');
  assert.equal(outcomeOf(states('skipped', 'failed')), 'failed');
});

test('images are counted by state', () => {
  assert.deepEqual(countStates(states('present', 'present', 'failed')), {
    pending: 0,
    loading: 0,
    present: 2,
    loaded: 0,
    served: 0,
    skipped: 0,
    failed: 1,
    missing: 0,
  });
});
