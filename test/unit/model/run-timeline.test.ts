import assert from 'node:assert/strict';
import { test } from 'node:test';
import { enterPhase, leaveAct, newTimeline } from '../../../agent/model/run-timeline.ts';

test('a phase ends when the next one begins, and the last one when the run is finished', () => {
  const reading = enterPhase(newTimeline, 'reading-bundle', 10.4);
  assert.deepEqual(reading, {
    phases: [
      { name: 'starting', startMs: 0, endMs: 10 },
      { name: 'reading-bundle', startMs: 10 },
    ],
    steps: [],
  });
  assert.deepEqual(enterPhase(reading, 'finished', 20.6).phases, [
    { name: 'starting', startMs: 0, endMs: 10 },
    { name: 'reading-bundle', startMs: 10, endMs: 21 },
  ]);
});

test('a step that is passed several times is kept once, from its first start to its last end', () => {
  const load = (startMs: number, endMs: number) => ({ name: 'load-image', startMs, endMs });
  const steps = [load(30.2, 50), { name: 'mount-partition', startMs: 1, endMs: 2 }, load(20, 40), load(45, 70.5)];
  assert.deepEqual(steps.reduce(leaveAct, newTimeline).steps, [
    { name: 'load-image', count: 3, startMs: 20, endMs: 71 },
    { name: 'mount-partition', count: 1, startMs: 1, endMs: 2 },
  ]);
});
