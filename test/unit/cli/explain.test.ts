import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it, test } from 'node:test';
import { explanations } from '../../../agent/cli/explain-command.ts';
import { errorTable, exitCodeOf, isErrorCode } from '../../../agent/model/errors.ts';
import { runHere } from '../../support/program.ts';

const LOCKED = `ERR_LOCKED: Another instance is running
exit code: 8 (locked): another instance is running
next:      Wait, or give \`--lock-wait SECONDS\`; \`prestage-agent status --watch\`
           shows the progress
`;

describe('explain', () => {
  for (const word of ['ERR_LOCKED', 'err_locked', 'locked', 'err-locked']) {
    it(`takes the code as ${word}`, async () => {
      assert.deepEqual(await runHere(['explain', word]), { exitCode: 0, stdout: LOCKED, stderr: '' });
    });
  }

  it('has the same as data', async () => {
    const { exitCode, stdout } = await runHere(['explain', 'ERR_USAGE', '--output', 'json']);
    assert.equal(exitCode, 0);
    assert.deepEqual(JSON.parse(stdout), {
      apiVersion: 'prestage-agent/v1',
      kind: 'ErrorCode',
      code: 'ERR_USAGE',
      summary: 'The command line cannot be understood',
      exitCode: 2,
      exitName: 'usage',
      exitMeaning: 'the command line, a setting or an override cannot be used; nothing was changed',
      remedy: '`prestage-agent COMMAND --help`',
    });
  });

  it('lists all codes without an argument, in lines of at most 80 columns', async () => {
    const { exitCode, stdout } = await runHere(['explain']);
    assert.equal(exitCode, 0);
    const codes = stdout.split('\n').flatMap((line) => /^ERR_\S+/.exec(line)?.[0] ?? []);
    assert.deepEqual(codes, Object.keys(errorTable));
    assert.deepEqual(
      stdout.split('\n').filter((line) => line.length > 80),
      [],
    );
    const json = JSON.parse((await runHere(['explain', '-o', 'json'])).stdout);
    assert.deepEqual([json.kind, json.codes.length], ['ErrorCodes', codes.length]);
  });

  for (const [word, near] of [
    ['ERR_STORE_BUSI', '; similar codes: ERR_STORE_BUSY'],
    ['crio', '; similar codes: ERR_CRIO_STORE'],
    ['ERR_NOTHING_LIKE_IT', ''],
    ['x', ''],
  ] as const) {
    it(`refuses ${word}, and names similar codes if there are some`, async () => {
      assert.deepEqual(await runHere(['explain', word]), {
        exitCode: 2,
        stdout: '',
        stderr: `error: "${word}" is not an error code${near}\n  ERR_USAGE; next: List all codes with: prestage-agent explain\n`,
      });
    });
  }
});

test('every code has a meaning and a remedy, and a link in it is the name of the document', () => {
  const all = explanations(readFileSync('docs/errors.md', 'utf8'));
  assert.deepEqual(
    all.filter(({ remedy, exitMeaning }) => remedy === '' || exitMeaning === '' || /\]\(/.test(remedy)),
    [],
  );
  assert.deepEqual(
    all.map(({ code, exitCode }) => [code, exitCode]),
    Object.keys(errorTable)
      .filter(isErrorCode)
      .map((code) => [code, exitCodeOf(code)]),
  );
});

describe('version', () => {
  it('is the same as --version', async () => {
    const [word, flag] = [await runHere(['version']), await runHere(['--version'])];
    assert.match(word.stdout, /^prestage-agent \d+\.\d+\.\d+ \(Node [\d.]+, \w+\)\n$/);
    assert.deepEqual(word, flag);
  });

  it('has the parts as data', async () => {
    const { version, node, architecture, ...rest } = JSON.parse((await runHere(['version', '--output', 'json'])).stdout);
    assert.deepEqual(rest, { apiVersion: 'prestage-agent/v1', kind: 'Version' });
    assert.match(`${version} ${node} ${architecture}`, /^\d+\.\d+\.\d+ \d+\.\d+\.\d+ (?:amd64|arm64)$/);
  });
});
