import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import { commands } from '../../../agent/cli/commands.ts';
import { completionScript } from '../../../agent/cli/completion.ts';
import { hostFor, progressStream, quieted, type Terminal } from '../../../agent/cli/context.ts';
import { withoutHabits } from '../../../agent/cli/habits.ts';
import { runHere } from '../../support/program.ts';

test('--tls-verify takes a value of Go, as in skopeo and podman', () => {
  for (const value of ['false', 'False', '0', 'f', 'F']) {
    assert.deepEqual(withoutHabits(['pull', `--tls-verify=${value}`, '--to', 'x']), ['pull', '--no-tls-verify', '--to', 'x']);
  }
  for (const value of ['true', '1', 'T']) assert.deepEqual(withoutHabits([`--tls-verify=${value}`]), ['--tls-verify']);
});

test('other words of a command line stay as they are', () => {
  const args = ['pull', '--tls-verify', '--tls-verify=perhaps', '--no-tls-verify', '--', '--tls-verify=false'];
  assert.deepEqual(withoutHabits(args), args);
});

describe('commands that reach registries', () => {
  for (const [words, what] of [
    [['pull', '--list', '/nowhere', '--to', '/nowhere'], '/nowhere'],
    [['images', 'merge', '/nowhere'], '/nowhere'],
  ] as const) {
    it(`accept or refuse --tls-verify as an option: ${words[0]} ${words[1]}`, async () => {
      const { stderr } = await runHere([...words, '--tls-verify=false']);
      assert.equal(stderr.includes(words[0] === 'pull' ? what : "unknown option '--no-tls-verify'"), true, stderr);
    });
  }
});

test('undo is another name of release, in help and completion, too', async () => {
  const [undo, release] = [await runHere(['undo', '--help']), await runHere(['release', '--help'])];
  assert.equal(undo.exitCode, 0);
  assert.deepEqual(undo, release);
  assert.match(release.stdout, /^Usage: prestage-agent release\|undo /);
  assert.match(completionScript('bash', commands), /^ {4}release\|undo\) words="--keep-images /m);
});

test('the completion knows the new commands and flags', () => {
  const script = completionScript('bash', commands);
  for (const name of ['inspect', 'explain', 'version', 'undo']) assert.match(script, new RegExp(`^  local words="[^"]* ${name} `, 'm'));
  assert.match(script, /^ {4}verify\) words="[^"]*--quiet /m);
  assert.match(script, /^ {4}pull\) words="[^"]*--tls-verify --no-tls-verify /m);
});

describe('--quiet', () => {
  it('leaves out progress and what only informs, and keeps results, notices, warnings and errors', () => {
    let written = '';
    let drawn = false;
    const stop = new AbortController().signal;
    const loud: Terminal = {
      out: { write: () => undefined },
      err: { isTTY: true, write: (text) => (written += text) },
      get in() {
        drawn = true;
        return process.stdin;
      },
      env: {},
      stop,
      kill: stop,
    };
    const quiet = quieted(loud);
    const { log } = hostFor(quiet, {});
    for (const severity of ['info', 'notice', 'warning', 'error'] as const) log(severity, `a ${severity}`);
    progressStream(quiet).write('progress');
    assert.equal(written, 'notice: a notice\nwarning: a warning\nerror: a error\n');
    assert.equal(progressStream(quiet).isTTY, undefined);
    assert.equal(progressStream(loud), loud.err);
    assert.equal(drawn, false, 'standard input was opened although nobody was asked');
  });

  it('is a flag of every command that shows progress', () => {
    const all = commands.flatMap((command) => [command, ...(command.commands ?? [])]);
    const having = all.filter(({ flags }) => flags.some(({ usage }) => usage === '-q, --quiet')).map(({ name }) => name);
    assert.deepEqual(having, [
      'run',
      'check-store',
      'release',
      'operators',
      'pull',
      'build',
      'create',
      'write',
      'image',
      'fetch',
      'verify',
    ]);
  });
});
