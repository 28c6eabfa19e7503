import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { execa } from 'execa';
import { makeSandbox, type Sandbox } from '../../support/agent.ts';
import { type Change, makeNamedBundle } from '../../support/named-bundle.ts';
import { makeTinyBundle } from '../../support/tiny-bundle.ts';

const ESCAPE = '\u001b';
/** A window title, a cleared screen, 8-bit CSI, a turned reading direction, and a line that the journal would take for an error of its own. */
const HOSTILE = '\u001b]0;owned\u0007\u001b[2J\u009b1A\u202eX\r\n<3>forged';
/** What the agent itself sends to a terminal. Source: ECMA-48, SGR, CUU, ED and EL. */
const OWN = new RegExp(`${ESCAPE}\\[(?:\\d+m|\\d+A|J|K)`, 'g');
/** Before it erases a live line, it returns to the start of that. */
const RETURN = new RegExp(`\\r(?=${ESCAPE}\\[(?:K|\\d+A))`, 'g');
const CONTROL = /(?![\n\t])\p{Cc}|[\u202a-\u202e]/u;

describe('control characters of foreign bytes', () => {
  let sandbox: Sandbox;
  let broken: string;
  let named: string;
  let archives: string;
  before(async () => {
    sandbox = await makeSandbox();
    broken = join(sandbox.work, 'broken');
    await mkdir(broken);
    await writeFile(join(broken, 'prestage.json'), HOSTILE);
    const work = join(sandbox.work, 'named');
    await mkdir(work);
    const bundle = await makeNamedBundle(work);
    const change: Change = (manifest, value) => Object.assign(manifest, { release: value, architecture: value });
    await bundle.rename(change, HOSTILE);
    named = bundle.directory;
    archives = (await makeTinyBundle(sandbox.work, 1)).directory;
    await sandbox.wrap(
      'skopeo',
      `case "$*" in *copy*) printf '\\033]0;owned\\007\\033[2J\\302\\2331A\\r<3>forged\\n' >&2; exit 1;; esac; exec "$REAL" "$@"`,
    );
  });
  after(async () => await sandbox?.[Symbol.asyncDispose]());

  const cases: readonly (readonly [string, () => readonly string[]])[] = [
    ['a broken prestage.json', () => ['verify', broken]],
    ['the release and the architecture of a bundle', () => ['verify', named]],
    ['the messages of a tool', () => ['run', '--stage', 'discovery', '--bundle', archives, '--retries', '0']],
  ];
  for (const [what, args] of cases) {
    it(`are seen on a terminal and not obeyed: ${what}`, async () => {
      const { stdout } = await onTerminal(args());
      const screen = stdout.replaceAll('\r\n', '\n').replaceAll(RETURN, '').replaceAll(OWN, '');
      assert.doesNotMatch(screen, CONTROL);
      assert.match(screen, /\\u001b/);
    });

    it(`are seen in the journal, where no line of theirs has a priority of its own: ${what}`, async () => {
      // Standard output is the journal for the agent, as in a unit: JOURNAL_STREAM names it. Source: systemd.exec(5).
      const inUnit = ['sh', '-c', 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/$$/fd/1) exec "$@"', 'sh'];
      const { stdout, stderr } = await sandbox.agent(args(), {}, inUnit);
      assert.doesNotMatch(stdout + stderr, CONTROL);
      assert.match(stdout + stderr, /\\u001b/);
      assert.deepEqual(
        `${stdout}\n${stderr}`.split('\n').filter((line) => line.startsWith('<3>forged')),
        [],
      );
      assert.deepEqual(
        stderr.split('\n').filter((line) => line !== '' && !/^<[3-7]>/.test(line)),
        [],
      );
    });

    it(`leave JSON the same document: ${what}`, async () => {
      const { stdout, stderr } = await sandbox.agent([...args(), '--output', 'json']);
      assert.doesNotMatch(stdout + stderr, CONTROL);
      assert.ok(typeof JSON.parse(stdout === '' ? stderr : stdout) === 'object');
    });
  }

  /** Runs the executable on a pseudo terminal; its standard error is there, too. Source: script(1). */
  async function onTerminal(args: readonly string[]) {
    const command = [sandbox.executable, ...args].map((word) => `'${word}'`).join(' ');
    const env = { TERM: 'xterm', PRESTAGE_ROOT: sandbox.root, PATH: `${join(sandbox.work, 'bin')}:${process.env.PATH}` };
    return await execa('script', ['--quiet', '--return', '--command', `env -u NO_COLOR ${command}`, '/dev/null'], {
      env,
      reject: false,
      timeout: 120_000,
      stdin: 'ignore',
    });
  }
});
