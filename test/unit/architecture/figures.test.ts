import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { keepFigures, readFigures } from '../../support/figures.ts';

test('figures are kept until the same scenario is tried again, with the day and the commit', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'figures-'));
  try {
    assert.deepEqual(await readFigures(join(directory, 'none')), []);
    const first = { scenario: 'run, first', tried: 100, recovered: 99, lost: 1 };
    const second = { scenario: 'run, second', tried: 7, recovered: 7, lost: 0 };
    await keepFigures('kills', [first, second], directory);
    await keepFigures(
      'kills',
      [
        { ...first, recovered: 100, lost: 0 },
        { ...second, tried: 0, recovered: 0 },
      ],
      directory,
    );
    await keepFigures('power', [second], directory);
    const kept = await readFigures(directory);
    assert.deepEqual(
      kept.map(({ kind, scenario, tried, recovered, lost }) => ({ kind, scenario, tried, recovered, lost })),
      [
        { kind: 'kills', ...first, recovered: 100, lost: 0 },
        { kind: 'kills', ...second },
        { kind: 'power', ...second },
      ],
    );
    for (const { at, commit } of kept) {
      assert.ok(Math.abs(Date.now() - Date.parse(at)) < 60_000, at);
      assert.match(commit, /^(unknown|[0-9a-f]{10,}\+?)$/);
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});
