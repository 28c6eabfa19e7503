import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { plainAct } from '../../../agent/host/acts.ts';
import { PrestageError } from '../../../agent/model/errors.ts';
import { executePlan, type StepOutcome } from '../../../agent/undo/execute.ts';
import type { GroupName, PlannedStep, UndoGroup } from '../../../agent/undo/plan.ts';

describe('a release', () => {
  /** Steps by their text; those that end in `!` fail, those in `?` are left. */
  const runGroups = async (
    groups: readonly (Partial<UndoGroup> & { readonly name: GroupName; readonly texts: readonly string[] })[],
    abortAt?: string,
  ) => {
    const ran: string[] = [];
    const stop = new AbortController();
    const act = (text: string): PlannedStep => ({
      name: 'remove-copies',
      text,
      run: async () => {
        ran.push(text);
        if (text === abortAt) stop.abort();
        if (text.endsWith('!')) throw new PrestageError('ERR_STORE_BUSY', `${text} is busy`, 'Stop it');
      },
      ...(text.endsWith('?') && { whyLeft: async () => 'somebody needs it' }),
    });
    const plan = groups.map(({ name, texts, needs = [], isChain = false }) => ({ name, needs, isChain, steps: texts.map(act) }));
    const outcomes = await executePlan({ groups: plan, notices: [] }, { act: plainAct, signal: stop.signal });
    return { ran, outcomes: outcomes.map(summary) };
  };
  const summary = (outcome: StepOutcome) =>
    `${outcome.result} ${outcome.text}${outcome.result === 'failed' ? ` (${outcome.error.code})` : outcome.result === 'done' ? '' : `: ${outcome.reason}`}`;

  it('runs every step in order', async () => {
    const { ran, outcomes } = await runGroups([
      { name: 'registry', texts: ['a', 'b'] },
      { name: 'store', texts: ['c'], needs: ['registry'] },
    ]);
    assert.deepEqual(
      [ran, outcomes],
      [
        ['a', 'b', 'c'],
        ['done a', 'done b', 'done c'],
      ],
    );
  });

  it('goes on after a step that failed with what does not need it, and passes over what does', async () => {
    const { outcomes } = await runGroups([
      { name: 'engines', texts: ['a!', 'b'] },
      { name: 'store', texts: ['c'], needs: ['engines'] },
      { name: 'partition', texts: ['d'], needs: ['store'] },
      { name: 'trees', texts: ['e'], needs: ['registry'] },
    ]);
    assert.deepEqual(outcomes, [
      'failed a! (ERR_STORE_BUSY)',
      'done b',
      'skipped c: this must be done first: a!',
      'skipped d: this must be done first: c',
      'done e',
    ]);
  });

  it('ends a chain at the first step that failed', async () => {
    const { ran, outcomes } = await runGroups([{ name: 'store', texts: ['unmount!', 'remove'], isChain: true }]);
    assert.deepEqual(
      [ran, outcomes],
      [['unmount!'], ['failed unmount! (ERR_STORE_BUSY)', 'skipped remove: this must be done first: unmount!']],
    );
  });

  it('leaves what somebody needs, which is no failure', async () => {
    const { ran, outcomes } = await runGroups([
      { name: 'store', texts: ['empty store?'], isChain: true },
      { name: 'partition', texts: ['unmount'], needs: ['store'] },
    ]);
    assert.deepEqual([ran, outcomes], [['unmount'], ['left empty store?: somebody needs it', 'done unmount']]);
  });

  it('begins nothing more once it is to end', async () => {
    const { ran, outcomes } = await runGroups([{ name: 'registry', texts: ['a', 'b'] }], 'a');
    assert.deepEqual([ran, outcomes], [['a'], ['done a', 'failed b (ERR_INTERRUPTED)']]);
  });
});
