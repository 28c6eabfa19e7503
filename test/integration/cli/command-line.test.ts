import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { commands } from '../../../agent/cli/commands.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { makeSandbox, type Sandbox } from '../../support/agent.ts';
import { assertGolden } from '../../support/golden.ts';

describe('the command line', () => {
  let sandbox: Sandbox;
  before(async () => {
    sandbox = await makeSandbox();
  });
  after(async () => await sandbox[Symbol.asyncDispose]());

  const agent = async (...args: readonly string[]) => await sandbox.agent(args);
  const configure = async (text: string) => {
    await mkdir(join(sandbox.root, 'etc/prestage-agent'), { recursive: true });
    await writeFile(join(sandbox.root, 'etc/prestage-agent/config.yaml'), text);
  };

  it('has help on itself, by --help, -h and help', async () => {
    const help = await agent('--help');
    assert.deepEqual([help.exitCode, help.stderr], [0, '']);
    assertGolden('help/prestage-agent.txt', help.stdout);
    for (const other of [['-h'], ['help']]) assert.deepEqual(await agent(...other), help);
  });

  for (const words of commands.flatMap(({ name, commands: below = [] }) => [[name], ...below.map((inner) => [name, inner.name])])) {
    it(`has help on ${words.join(' ')}, which writes nothing`, async () => {
      const help = await agent(...words, '--help');
      assert.deepEqual([help.exitCode, help.stderr], [0, '']);
      assertGolden(`help/${words.join('-')}.txt`, help.stdout);
    });
  }

  it('tells its version and the Node that it stands on', async () => {
    const long = await agent('--version');
    assert.match(long.stdout, /^prestage-agent \d+\.\d+\.\d+ \(Node 24\.21\.0, (x64|arm64)\)\n$/);
    assert.deepEqual(await agent('-V'), long);
  });

  for (const [args, message] of [
    [['rnu'], "error: unknown command 'rnu'\n(Did you mean run?)"],
    [['run', '--lable', 'x'], "error: unknown option '--lable'\n(Did you mean --label?)"],
    [['run', '--label'], "error: option '--label <name>' argument missing"],
    [['status', '--output', 'xml'], "error: option '-o, --output <form>' argument 'xml' is invalid. Allowed choices are text, json, yaml."],
    [['ignition'], "error: missing required argument 'stage'"],
    [['status', 'now'], "error: too many arguments for 'status'. Expected 0 arguments but got 1: now."],
  ] as const) {
    it(`refuses \`${args.join(' ')}\` with exit code 2 and what is wrong with it`, async () => {
      const result = await agent(...args);
      assert.deepEqual([result.exitCode, result.stdout], [2, '']);
      assert.equal(result.stderr, `${message}\n(prestage-agent --help lists commands and options)\n`);
    });
  }

  it('without a command shows help as an error', async () => {
    const result = await agent();
    assert.deepEqual([result.exitCode, result.stdout], [2, '']);
    assert.match(result.stderr, /^Usage: prestage-agent \[options\] \[command\]/);
  });

  it('tells errors with what, which, got and what to do next', async () => {
    const result = await agent('run', '--stage', 'discovry');
    assert.deepEqual([result.exitCode, result.stdout], [2, '']);
    assert.match(
      result.stderr,
      /^error: .*--stage: must be one of discovery, installed, got "discovry"\n {2}ERR_SETTINGS; next: Correct or remove the settings named above/,
    );
  });

  it('tells what is wrong with a command line as JSON, too', async () => {
    for (const args of [
      ['run', '--lable', 'x', '--output', 'json'],
      ['run', '--lable', 'x', '-ojson'],
      ['run', '-o', 'json', '--lable', 'x'],
    ]) {
      const json = await agent(...args);
      const message = "unknown option '--lable' (Did you mean --label?)";
      const error = { code: 'ERR_USAGE', message, remedy: 'Run: prestage-agent --help', exitCode: 2 };
      assert.deepEqual(
        [json.exitCode, json.stdout, JSON.parse(json.stderr)],
        [2, '', { apiVersion: 'prestage-agent/v1', kind: 'Error', error }],
      );
    }
  });

  it('tells errors as JSON where the answer was to be that', async () => {
    const json = await agent('run', '--output', 'json');
    assert.deepEqual(
      [json.exitCode, JSON.parse(json.stderr)],
      [
        2,
        {
          apiVersion: 'prestage-agent/v1',
          kind: 'Error',
          error: {
            code: 'ERR_USAGE',
            message: 'no stage is given',
            remedy: 'Give --stage discovery or --stage installed, or set it in /etc/prestage-agent/config.yaml',
            exitCode: 2,
          },
        },
      ],
    );
  });

  it('takes settings from the file, over that from the environment, over that from flags', async () => {
    const stages = async (env: Readonly<Record<string, string>>, ...args: readonly string[]) => {
      const plan = await sandbox.agent(['run', '--dry-run', '--output', 'json', '--device-wait', '0', ...args], env);
      return [JSON.parse(plan.stdout).stage, /label "([^"]+)"/.exec(plan.stdout.replaceAll('\\"', '"'))?.[1]];
    };
    await configure(`stage: installed\nlabel: by-file-${process.pid}\n`);
    assert.deepEqual(await stages({}), ['installed', `by-file-${process.pid}`]);
    assert.deepEqual(await stages({ PRESTAGE_LABEL: `by-env-${process.pid}` }), ['installed', `by-env-${process.pid}`]);
    assert.deepEqual(
      await stages({ PRESTAGE_LABEL: 'by-env', PRESTAGE_STAGE: 'installed' }, '--label', `by-flag-${process.pid}`, '--stage', 'discovery'),
      ['discovery', `by-flag-${process.pid}`],
    );
  });

  it('refuses unknown settings of the file by name and line, all at once', async () => {
    await configure('stage: installed\nlabl: data\nretries: 99\n');
    const result = await agent('run');
    await configure('');
    assert.equal(result.exitCode, 2);
    const path = join(sandbox.root, 'etc/prestage-agent/config.yaml');
    assert.ok(result.stderr.includes(`${path}:2: `) && result.stderr.includes('labl'), result.stderr);
    assert.ok(result.stderr.includes(`${path}:3: retries must be a whole number from 0 to 20, got 99`), result.stderr);
    assert.match(result.stderr, /ERR_SETTINGS; next: /);
  });

  it('has a completion that bash reads, and that completes commands and flags', async () => {
    const { stdout, exitCode } = await agent('completion', 'bash');
    assert.equal(exitCode, 0);
    const script = join(sandbox.work, 'completion.bash');
    await writeFile(script, stdout);
    assert.equal(await output(execOnLinux, 'bash', ['-n', script]), '');
    const complete = async (...words: readonly string[]) => {
      const program = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _prestage_agent; declare -p COMPREPLY';
      const declared = await output(execOnLinux, 'bash', ['-c', program, 'bash', script, ...words]);
      return [...declared.matchAll(/\[\d+\]="([^"]*)"/g)].map(([, word = '']) => word);
    };
    assert.deepEqual(await complete('prestage-agent', 'sta'), ['status']);
    assert.deepEqual(await complete('prestage-agent', 'run', '--dev'), ['--device-wait']);
    assert.deepEqual(await complete('prestage-agent', 'status', '--w'), ['--watch']);
    assert.deepEqual(await complete('prestage-agent', ''), [
      ...commands.flatMap(({ name, alias }) => (alias === undefined ? [name] : [name, alias])),
      'help',
      '--help',
      '--version',
    ]);
  });

  it('has no completion for a shell that it does not know, and says so', async () => {
    const result = await agent('completion', 'fish');
    assert.deepEqual(
      [result.exitCode, result.stderr],
      [2, 'error: completion does not support the shell "fish"\n  ERR_USAGE; next: Choose one of: bash\n'],
    );
  });

  it('ends quietly where the reader of its answer has gone, and tells where the answer does not go onto the disk', async () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell fills it in
    const gone = await execOnLinux('bash', ['-c', '"$0" --help | true; exit "${PIPESTATUS[0]}"', sandbox.executable]);
    assert.deepEqual([gone.exitCode, gone.stderr], [0, '']);
    const full = await execOnLinux('bash', ['-c', '"$0" --help >/dev/full', sandbox.executable]);
    assert.deepEqual(
      [full.exitCode, full.stderr],
      [
        4,
        'ERR_SYSTEM: a file cannot be written: its file system is full (ENOSPC)\nFree space on that file system, then run the command again',
      ],
    );
  });
});
