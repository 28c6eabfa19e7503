import { test } from 'node:test';
import type { BootTimeline } from '../../boot/timeline.ts';
import { renderTimeline } from '../../boot/timeline-svg.ts';
import { assertGolden } from '../../support/golden.ts';

const timeline: BootTimeline = {
  ours: 'ours.service',
  units: [
    { name: 'before.service', startMs: 0, endMs: 250.26, hasFailed: false },
    { name: 'ours.service', startMs: 250, endMs: 3250, hasFailed: false },
    { name: 'what "fails" & <ends>.service', startMs: 3300, endMs: 3301, hasFailed: true },
    { name: 'after.service', startMs: 3400, hasFailed: false },
  ],
  run: {
    startMs: 500,
    timeline: {
      phases: [
        { name: 'starting', startMs: 0, endMs: 20 },
        { name: 'waiting-for-partition', startMs: 20, endMs: 1020 },
        { name: 'loading', startMs: 1020 },
      ],
      steps: [
        { name: 'load-image', count: 12, startMs: 1100, endMs: 2500 },
        { name: 'mount-partition', count: 1, startMs: 900, endMs: 1015 },
        { name: 'record-plan', count: 1, startMs: 1020, endMs: 1049 },
        { name: 'make-scratch', count: 1, startMs: 1050, endMs: 1080 },
      ],
    },
  },
};

test('a boot is drawn unit by unit, ours with its phases, and these with the steps that took their time', () => {
  assertGolden('boot/timeline.svg', renderTimeline('A boot of <nothing> & "more"', timeline));
});

test('a boot of an agent that keeps no times is drawn with its units alone', () => {
  const { run: _, ...silent } = timeline;
  assertGolden('boot/timeline-silent.svg', renderTimeline('A boot', { ...silent, units: silent.units.slice(0, 2) }));
});
