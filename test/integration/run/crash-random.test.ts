import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crashScenarios } from '../../support/crash/all.ts';
import { killAtRandom, type RandomKill } from '../../support/crash/random.ts';

const COUNT = 10;
const seed = Date.now() % 2 ** 32;

/** More of it: `npm run test:kills -- --count 200`. */
test(`${COUNT} commands that are killed at random moments come to the same end when they are given again (seed ${seed})`, async (t) => {
  const reasons = await Promise.all(crashScenarios.map(async (scenario) => await scenario.unavailable?.()));
  const scenarios = crashScenarios.filter((_, index) => reasons[index] === undefined);
  for (const reason of new Set(reasons)) if (reason !== undefined) t.diagnostic(`without some scenarios: ${reason}`);
  const kills: RandomKill[] = [];
  await killAtRandom({ scenarios, count: COUNT, seed, onKill: (kill) => kills.push(kill) });
  assert.deepEqual(
    kills.filter(({ lost }) => lost !== undefined),
    [],
  );
  assert.equal(kills.length, COUNT);
});
