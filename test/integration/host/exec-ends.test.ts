import assert from 'node:assert/strict';
import { test } from 'node:test';
import { execOnLinux, howEnded, output } from '../../../agent/host/exec.ts';
import { errorRecord } from '../../../agent/model/errors.ts';

const messageOf = async (work: Promise<unknown>): Promise<string> =>
  errorRecord(
    await work.then(
      () => assert.fail(),
      (error: unknown) => error,
    ),
  ).message;

test('of a program that did not end well, the reason is told: exit, signal, limit of time, stop, too much output', async () => {
  assert.equal(await messageOf(output(execOnLinux, 'sh', ['-c', 'exit 3'])), 'sh -c exit 3 failed with exit code 3: it printed no message');
  assert.equal(
    await messageOf(output(execOnLinux, 'sh', ['-c', 'kill -KILL $$'])),
    'sh -c kill -KILL $$ was killed by SIGKILL: it printed no message',
  );
  const late = output(execOnLinux, 'sleep', ['60'], { timeoutMs: 50 });
  assert.equal(await messageOf(late), 'sleep 60 timed out after 0.05 s: it printed no message');
  assert.equal(
    await messageOf(output(execOnLinux, 'sleep', ['60'], { signal: AbortSignal.timeout(50) })),
    'sleep 60 was stopped: it printed no message',
  );
  const much = await execOnLinux('head', ['-c', '70000000', '/dev/zero']);
  assert.equal(howEnded(much), 'was stopped because it printed more than 64 MiB');
  const good = await execOnLinux('true', []);
  assert.deepEqual(good, { stdout: '', stderr: '', exitCode: 0 });
});
