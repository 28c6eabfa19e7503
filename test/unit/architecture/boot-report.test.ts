import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type BootReport, renderReport } from '../../boot/report.ts';
import { PICTURED } from '../../boot/report-write.ts';
import { SCENARIOS } from '../../boot/scenarios/table.ts';
import { assertGolden } from '../../support/golden.ts';
import { keepLife, readLife } from '../../support/vm-life.ts';

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
  life: {
    at: '2026-03-02T00:00:00.000Z',
    commit: 'aaaaaaaaaa',
    isWell: true,
    notes: ['discovery: 62 s', 'prestage-agent-discovery.service: 12.3 s from start to ready, emulated'],
  },
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

test('a life in a virtual machine that was not gone through, or failed, is reported as such', () => {
  assert.match(renderReport({ ...report, life: undefined }), /damaged store image\.\n(?:.*\n){2}It was not run\.\n\n## Kills, power cuts/);
  const failed = renderReport({
    ...report,
    life: { at: report.at, commit: 'aaaaaaaaaa', isWell: false, notes: ['discovery: 62 s', 'FAIL | no\nboot'] },
  });
  assert.match(failed, /It \*\*failed\*\* on 2026-03-04, with commit aaaaaaaaaa\.\n\n\* discovery: 62 s\n\* FAIL \\\| no boot\n/);
});

test('the last life in a virtual machine is kept', async (t) => {
  const work = await mkdtemp(join(tmpdir(), 'life-'));
  t.after(() => rm(work, { recursive: true }));
  const file = join(work, 'cache/life.json');
  assert.equal(await readLife(file), undefined);
  await keepLife({ isWell: true, notes: ['one'] }, file);
  await keepLife({ isWell: false, notes: ['one', 'two'] }, file);
  const { at, commit, ...kept } = (await readLife(file)) ?? assert.fail();
  assert.deepEqual(kept, { isWell: false, notes: ['one', 'two'] });
  assert.ok(Math.abs(Date.now() - Date.parse(at)) < 60_000, at);
  assert.match(commit, /^(unknown|[0-9a-f]{10,}\+?)$/);
});
