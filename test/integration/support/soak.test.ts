import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { seeded } from '../../power/trial.ts';
import { growthOf, soakBoots } from '../../soak/boots.ts';
import type { Footprint } from '../../soak/footprint.ts';
import { deliveries, makeSoakNode, type SoakNode } from '../../soak/node.ts';
import { wipeAgainAndAgain } from '../../soak/wipes.ts';
import { mountNodesUnavailable } from '../../support/mount-node.ts';
import { inOwnMounts } from '../../support/own-mounts.ts';

inOwnMounts(import.meta.url, { ownPids: true });

const unavailable = await mountNodesUnavailable();

describe('a node that is booted again and again', () => {
  let soak: SoakNode;
  before(async () => {
    if (unavailable === undefined) soak = await makeSoakNode();
  });
  after(async () => await soak?.[Symbol.asyncDispose]());

  for (const delivery of [deliveries.extract, deliveries.partition]) {
    it(`has its images back after each unclean stop, with no network (${delivery.name})`, async (t) => {
      if (unavailable !== undefined) return t.skip(unavailable);
      assert.deepEqual(await wipeAgainAndAgain(soak, delivery, 1), {
        scenario: `unclean stop, ${delivery.name}`,
        tried: 1,
        recovered: 1,
        lost: 0,
      });
    });
  }

  it('with any delivery and any stop leaves nothing behind, and does not grow', async (t) => {
    if (unavailable !== undefined) return t.skip(unavailable);
    const { boots, cleanStops, uncleanStops, footprints } = await soakBoots(soak, { boots: 8, period: 4, random: seeded(9) });
    assert.deepEqual([boots, cleanStops + uncleanStops, footprints.map(({ boot }) => boot)], [8, 8, [4, 8]]);
    assert.ok(uncleanStops > 0);
    assert.deepEqual(growthOf(footprints), []);
  });

  it('is said to grow where it does', () => {
    const plain: Footprint = {
      stateFiles: 10,
      stateBytes: 1000,
      temporaryFiles: 0,
      etcFiles: 3,
      etcBytes: 300,
      images: 4,
      layers: 5,
      containers: 0,
      loops: 0,
      mounts: 0,
      namespaces: 0,
      processes: 0,
    };
    const later = (change: Partial<Footprint>) => [
      { boot: 10, ...plain },
      { boot: 100, ...plain, ...change },
    ];
    assert.deepEqual(growthOf(later({ stateBytes: 2000 })), []);
    assert.deepEqual(growthOf(later({ stateFiles: 11, temporaryFiles: 2, loops: 1 })), [
      'stateFiles: 10 to 11',
      'temporaryFiles: 0 to 2',
      'loops: 1 are left',
    ]);
    assert.deepEqual(growthOf([]), ['nothing was measured']);
  });
});
