import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { runProgram } from '../../../agent/cli/program.ts';
import { requireRoot, withSudo } from '../../../agent/cli/require-root.ts';
import { PrestageError } from '../../../agent/model/errors.ts';

/** Lets the process look like that of a user until the test ends. */
function becomeUser(context: TestContext, uid: number): void {
  const real = process.geteuid;
  context.after(() => {
    if (real !== undefined) process.geteuid = real;
  });
  process.geteuid = () => uid;
}

/** A command line as a user other than root gives it; what it writes, and its exit code. */
async function runAsUser(context: TestContext, args: readonly string[]) {
  becomeUser(context, 1000);
  const written = { out: '', err: '' };
  const signal = new AbortController().signal;
  const exitCode = await runProgram(args, {
    out: { write: (text: string) => (written.out += text) },
    err: { write: (text: string) => (written.err += text) },
    env: {},
    stop: signal,
    kill: signal,
  });
  return { exitCode, ...written };
}

const COMMANDS: readonly (readonly [readonly string[], string, string])[] = [
  [['run', '--stage', 'discovery'], 'run', 'mounts the data partition, and changes storage and files of root'],
  [['run', '--stage', 'installed', '--dry-run'], 'run', 'mounts the data partition, and changes storage and files of root'],
  [['check-store'], 'check-store', 'reads the mounted store image'],
  [['release', '--yes'], 'release', 'looks at mounts, storage and files of root, and changes them'],
  [['partition', 'create', '/absent', '--size', '1GiB'], 'partition create', 'opens the disk, or attaches the image to a loop device'],
  [['partition', 'write', '/absent', '/absent'], 'partition write', 'mounts the data partition'],
  [['verify', import.meta.filename], 'verify', `mounts ${import.meta.filename}`],
  [['fetch', 'http://127.0.0.1:1/', '--to', import.meta.filename], 'fetch', `mounts ${import.meta.filename}`],
];

for (const [args, command, why] of COMMANDS) {
  test(`without root, "${args.slice(0, 3).join(' ')}" says so before it opens anything`, async (context) => {
    assert.deepEqual(await runAsUser(context, args), {
      exitCode: 2,
      out: '',
      err: `error: ${command} takes root: it ${why}\n  ERR_ROOT; next: Give it again with sudo: sudo prestage-agent ${command} …\n`,
    });
  });
}

test('a directory that stands for / can belong to any user', (context) => {
  becomeUser(context, 1000);
  assert.doesNotThrow(() => requireRoot({ root: '/tmp' }, 'run', 'mounts'));
});

test('if the kernel denies a path to a user, the remedy is sudo; root gets the remedy of the error', (context) => {
  const cause = Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' });
  const error = new PrestageError('ERR_LIST', 'm', 'r', { cause });
  const record = { code: 'ERR_LIST', message: 'm', remedy: 'r' } as const;
  const remedy = 'This takes root, or other permissions: give it again with sudo, or name a path that belongs to this user';
  becomeUser(context, 1000);
  assert.deepEqual(withSudo(record, error), { ...record, remedy });
  assert.deepEqual(withSudo(record, new PrestageError('ERR_LIST', 'm', 'r')), record);
  becomeUser(context, 0);
  assert.deepEqual(withSudo(record, error), record);
});
