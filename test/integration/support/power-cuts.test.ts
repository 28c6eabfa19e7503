import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { factoryPowerScenarios } from '../../power/factory-scenarios.ts';
import { nodePowerScenarios } from '../../power/node-scenarios.ts';
import { type Moment, momentsOf, runUndisturbed, seeded, tryCut } from '../../power/trial.ts';
import { disksUnavailable } from '../../support/disk.ts';
import { inOwnMounts } from '../../support/own-mounts.ts';

inOwnMounts(import.meta.url);

const unavailable = await disksUnavailable();

/** Moments that found something once, and others beside them; `npm run test:power` tries 100 at random. */
const MOMENTS: Readonly<Record<string, readonly Moment[]>> = {
  extract: [
    { fileSystem: 'xfs', cut: 'log', at: 0.55 },
    { fileSystem: 'ext4', cut: 'log', at: 0.62 },
  ],
  'registry of archives of oc-mirror': [
    { fileSystem: 'ext4', cut: 'log', at: 0.25 },
    { fileSystem: 'xfs', cut: 'log', at: 0.6 },
  ],
  'partition write': [
    { fileSystem: 'xfs', cut: 'all', at: 0.5 },
    { fileSystem: 'ext4', cut: 'log', at: 0.7 },
  ],
};

describe('a power cut', () => {
  for (const scenario of [...nodePowerScenarios, ...factoryPowerScenarios]) {
    const moments = MOMENTS[scenario.name] ?? [];
    if (moments.length === 0) continue;
    it(`in ${scenario.name} leaves nothing that is taken for whole and is not, and the next one comes to the end`, async (t) => {
      if (unavailable !== undefined) return t.skip(unavailable);
      await using prepared = await scenario.prepare();
      const usual = await runUndisturbed(prepared);
      for (const moment of moments) await tryCut(prepared, moment, usual);
    });
  }

  it('is tried at moments that the same seed gives again, on both file systems and with both kinds of loss', () => {
    const moments = momentsOf(40, seeded(1));
    assert.deepEqual(moments, momentsOf(40, seeded(1)));
    assert.notDeepEqual(moments, momentsOf(40, seeded(2)));
    const kinds = Object.groupBy(moments, ({ fileSystem, cut }) => `${fileSystem} ${cut}`);
    assert.deepEqual(
      Object.entries(kinds).map(([kind, all]) => [kind, all?.length]),
      [
        ['xfs all', 10],
        ['ext4 all', 10],
        ['xfs log', 10],
        ['ext4 log', 10],
      ],
    );
    assert.ok(moments.every(({ at }) => at >= 0 && at < 1.05));
  });
});
