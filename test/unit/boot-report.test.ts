import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BootReport, renderReport } from '../boot/report.ts';
import { PICTURED } from '../boot/report-write.ts';
import { SCENARIOS } from '../boot/scenarios/table.ts';
import { assertGolden } from '../support/golden.ts';

const MIB = 2 ** 20;
const later = (number: number, secondsUnitToReady: number) => ({ what: `boot ${number}`, secondsUnitToReady, peakMemoryBytes: 40 * MIB });
const report: BootReport = {
  at: '2026-03-04T05:06:07.000Z',
  commit: '0123456789+',
  versions: { 'prestage-agent': '0.1.0', kernel: '6.1.0', machine: '2 cores' },
  jobs: 2,
  scenarioCount: 5,
  outcomes: [
    {
      name: 'extract oci',
      ok: true,
      seconds: 50,
      boots: [
        { what: 'discovery', secondsUnitToReady: 1.234, peakMemoryBytes: 108 * MIB },
        { what: 'first boot and pivot', secondsUnitToReady: 2 },
        later(2, 0.31),
        later(3, 0.4),
        later(4, 0.35),
      ],
      notes: ['stand-ins were used'],
    },
    { name: 'one | other', ok: true, seconds: 3, boots: [{ what: 'discovery' }, later(2, 0.5)], notes: ['stand-ins were used'] },
    { name: 'no disk', ok: false, seconds: 1, boots: [], notes: [], failure: 'it | was\tnot up\n  at boot (boot.ts:1)' },
  ],
  figures: [
    { kind: 'crash', scenario: 'a', tried: 20, recovered: 20, lost: 0, at: '2026-03-01T00:00:00.000Z', commit: 'aaaaaaaaaa' },
    { kind: 'crash', scenario: 'b', tried: 12, recovered: 11, lost: 1, at: '2026-02-28T00:00:00.000Z', commit: 'bbbbbbbbbb' },
    { kind: 'soak', scenario: 'c', tried: 100, recovered: 100, lost: 0, at: '2026-03-01T00:00:00.000Z', commit: 'aaaaaaaaaa' },
  ],
  pictures: [{ title: 'Discovery', file: 'boot-timeline-discovery.svg' }],
};

test('the report tells every scenario with its boots, what was tried, and what was not run', () => {
  assertGolden('boot/report.md', renderReport(report));
});

test('the scenario of which the pictures are is there', () => {
  assert.equal(SCENARIOS.filter(({ name }) => name.startsWith(PICTURED)).length, 1);
});

test('a report without pictures says nothing of where the time went', () => {
  const text = renderReport({ ...report, pictures: [], jobs: 1, scenarioCount: 3 });
  assert.doesNotMatch(text, /Where the time|more were not run/);
  assert.match(text, /with one scenario at a time/);
});
