import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { after, before, describe, it } from 'node:test';
import { type Fault, faultText } from '../../faults/calls.ts';
import { type FaultFixture, faultScenarios, makeFaultFixture, tryFault } from '../../faults/trial.ts';
import { sandboxUnavailable } from '../../support/sandbox.ts';

const unavailable = sandboxUnavailable();
const { EIO, EMFILE, ENOSPC, EROFS } = constants.errno;

/** Faults that found something once, and others beside them; `npm run test:faults` tries all that a run can meet. */
const FAULTS: Readonly<Record<string, readonly Fault[]>> = {
  extract: [
    { kind: 'call', call: 'open', nth: 1, errno: EMFILE },
    { kind: 'call', call: 'write', nth: 1, errno: ENOSPC },
    { kind: 'call', call: 'fsync', nth: 3, errno: EIO },
    { kind: 'call', call: 'link', nth: 3, errno: ENOSPC },
    { kind: 'call', call: 'pipe', nth: 3, errno: EMFILE },
    { kind: 'call', call: 'exec', nth: 3, errno: EIO },
    { kind: 'program', program: 'skopeo', nth: 1 },
  ],
  mount: [
    { kind: 'call', call: 'read', nth: 6, errno: EIO },
    { kind: 'call', call: 'mkdir', nth: 9, errno: EIO },
    { kind: 'call', call: 'rename', nth: 6, errno: EROFS },
    { kind: 'program', program: 'mount', nth: 1 },
  ],
};

describe('what a run does fails once', () => {
  let fixture: FaultFixture;
  before(async () => {
    if (unavailable === undefined) fixture = await makeFaultFixture();
  });
  after(async () => await fixture?.[Symbol.asyncDispose]());

  for (const scenario of faultScenarios) {
    for (const fault of FAULTS[scenario.name] ?? []) {
      it(`${scenario.name}: where ${faultText(fault)} the error is clear, nothing is lost, and the next run comes to the end`, async (t) => {
        if (unavailable !== undefined) return t.skip(unavailable);
        assert.notEqual(await tryFault(fixture, scenario, fault), undefined, 'the run did not come to it');
      });
    }
  }
});
