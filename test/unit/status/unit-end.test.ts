import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import { readUnitEnds, type UnitEnd } from '../../../agent/host/unit-end.ts';
import { describeEnd, judgeUnit } from '../../../agent/status/unit-end.ts';

const UNIT = 'prestage-agent-installed.service';
const end = (how: UnitEnd['how']): UnitEnd => ({ unit: UNIT, stage: 'installed', pid: 7, how });
const show = (properties: Readonly<Record<string, string | number>>): string =>
  Object.entries({
    Id: UNIT,
    ActiveState: 'failed',
    Result: 'exit-code',
    ExecMainPID: 7,
    ExecMainCode: 1,
    ExecMainStatus: 0,
    ...properties,
  })
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');

const shown: Readonly<Record<string, readonly [text: string, how: UnitEnd['how'] | undefined]>> = {
  'was not started': [show({ ActiveState: 'inactive', Result: 'success', ExecMainPID: 0, ExecMainCode: 0 }), undefined],
  'is being started': [show({ ActiveState: 'activating', ExecMainCode: 0 }), { kind: 'starting' }],
  'ended well': [show({ ActiveState: 'active', Result: 'success' }), { kind: 'exit', code: 0 }],
  'could not be executed': [show({ ExecMainStatus: 203 }), { kind: 'exit', code: 203 }],
  'was killed': [show({ Result: 'signal', ExecMainCode: 2, ExecMainStatus: 9 }), { kind: 'signal', name: 'SIGKILL' }],
  'dumped core': [show({ Result: 'core-dump', ExecMainCode: 3, ExecMainStatus: 5 }), { kind: 'signal', name: 'SIGTRAP' }],
  'was ended by a signal without a name': [show({ ExecMainCode: 2, ExecMainStatus: 40 }), { kind: 'signal', name: 'signal 40' }],
  'took too long and was killed': [show({ Result: 'timeout', ExecMainCode: 2, ExecMainStatus: 15 }), { kind: 'limit' }],
  'took too long and ended by itself': [show({ Result: 'timeout', ExecMainStatus: 75 }), { kind: 'limit' }],
};
describe('what systemd says of a unit that', () => {
  for (const [what, [text, how]] of Object.entries(shown)) {
    it(what, () => assert.deepEqual(readUnitEnds(text), how === undefined ? [] : [end(how)]));
  }
});

test('units are told apart, and others are nothing to the agent', () => {
  const discovery = show({ Id: 'prestage-agent-discovery.service', ExecMainPID: 0, ExecMainCode: 0 });
  const other = show({ Id: 'other.service', ExecMainStatus: 1 });
  assert.deepEqual(readUnitEnds([discovery, show({ ExecMainStatus: 3 }), other].join('\n')), [end({ kind: 'exit', code: 3 })]);
});

const NEXT = `Read its log: journalctl -b -u ${UNIT}; then start a run: prestage-agent run --stage installed`;
const verdicts: readonly (readonly [how: UnitEnd['how'], readiness: string, exitCode: number, clause: string])[] = [
  [{ kind: 'signal', name: 'SIGABRT' }, 'interrupted', 11, `${UNIT} was terminated by SIGABRT`],
  [{ kind: 'limit' }, 'interrupted', 11, `systemd stopped ${UNIT} because it exceeded TimeoutStartSec`],
  [{ kind: 'exit', code: 1 }, 'failed', 1, `${UNIT} ended with exit code 1`],
  [{ kind: 'exit', code: 5 }, 'failed', 5, `${UNIT} ended with exit code 5`],
  [{ kind: 'exit', code: 69 }, 'failed', 5, `${UNIT} ended with exit code 5, which the policy open tolerates (69)`],
  [{ kind: 'exit', code: 66 }, 'failed', 9, `${UNIT} ended with exit code 66`],
  [{ kind: 'exit', code: 126 }, 'failed', 9, `the launcher of ${UNIT} could not execute the agent (exit code 126)`],
  [{ kind: 'exit', code: 127 }, 'failed', 9, `the launcher of ${UNIT} could not execute the agent (exit code 127)`],
  [{ kind: 'exit', code: 203 }, 'failed', 9, `systemd could not execute the launcher of ${UNIT} (203/EXEC)`],
  [{ kind: 'exit', code: 226 }, 'failed', 9, `systemd could not start ${UNIT} (exit code 226)`],
];
describe('a boot without a record of a run is what its unit says', () => {
  for (const [how, readiness, exitCode, clause] of verdicts) {
    it(clause, () => {
      assert.deepEqual(judgeUnit(end(how)), {
        readiness,
        reason: `no run has left a record in this boot: ${clause}`,
        nextStep: NEXT,
        exitCode,
      });
    });
  }

  it('and a unit that ended well says nothing', () => {
    assert.equal(judgeUnit(end({ kind: 'exit', code: 0 })), undefined);
  });

  it('and one that is being started will have one', () => {
    assert.deepEqual(judgeUnit(end({ kind: 'starting' })), {
      readiness: 'running',
      reason: `${UNIT} is starting and has not written a record yet`,
      nextStep: `Wait for it, or follow its log: journalctl -b -f -u ${UNIT}`,
      exitCode: 10,
    });
    assert.equal(describeEnd(UNIT, { kind: 'starting' }), `${UNIT} is starting`);
  });
});
