import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorTable, exitCodeOf, exitCodes, isErrorCode, TOLERATED } from '../../../agent/model/errors.ts';

const document = readFileSync(new URL('../../../docs/errors.md', import.meta.url), 'utf8');

/** The cells of the table below a heading, row by row, without its two head lines. */
function rowsBelow(heading: string): readonly (readonly string[])[] {
  const lines = document
    .slice(document.indexOf(`\n## ${heading}\n`))
    .split('\n')
    .slice(2);
  const start = lines.findIndex((line) => line.startsWith('|'));
  const end = lines.findIndex((line, index) => index > start && !line.startsWith('|'));
  const table = lines.slice(start + 2, end < 0 ? undefined : end);
  return table.map((line) => line.split('|').slice(1, -1).map(plain));
}

function plain(cell: string): string {
  return cell.trim().replaceAll('`', '');
}

const codeRows = rowsBelow('Error codes').map(([code = '', exit, meaning, remedy, ...more]) => ({ code, exit, meaning, remedy, more }));

test('docs/errors.md has every error code', () => {
  const documented = new Set(codeRows.map((row) => row.code));
  assert.deepEqual(
    Object.keys(errorTable).filter((code) => !documented.has(code)),
    [],
    'these codes have no row in docs/errors.md',
  );
});

test('docs/errors.md has no error code that the agent does not have, and none twice', () => {
  const codes = codeRows.map((row) => row.code);
  assert.deepEqual(
    codes.filter((code, index) => !isErrorCode(code) || codes.indexOf(code) !== index),
    [],
    'these rows of docs/errors.md name no code of the agent, or one again',
  );
});

test('docs/errors.md gives every code the exit code and the meaning that the agent gives it', () => {
  const known = codeRows.flatMap(({ code, exit, meaning }) => (isErrorCode(code) ? [{ code, exit, meaning }] : []));
  const ofAgent = known.map(({ code }) => ({ code, exit: String(exitCodeOf(code)), meaning: errorTable[code].summary }));
  const differs = known.map((row, index) => row.exit !== ofAgent[index]?.exit || row.meaning !== ofAgent[index]?.meaning);
  assert.deepEqual(
    known.filter((_, index) => differs[index]),
    ofAgent.filter((_, index) => differs[index]),
  );
});

test('docs/errors.md says for every code what to do, in a row of four cells', () => {
  assert.deepEqual(
    codeRows.filter((row) => (row.remedy ?? '') === '' || row.more.length > 0),
    [],
  );
});

test('the exit codes of docs/errors.md are those of the agent, in both directions', () => {
  const documented = rowsBelow('Exit codes').map(([exit, name]) => [name, exit]);
  assert.deepEqual(documented, [['', '0'], ...Object.entries(exitCodes).map(([name, exit]) => [name, String(exit)])]);
});

test('docs/errors.md adds to the codes of the policy open what the agent adds', () => {
  const row = (start: string) => (document.split('\n').find((line) => line.startsWith(`| ${start} |`)) ?? '').split('|').slice(2, -1);
  // What only `status` ends with is never added to.
  const ofOthers: readonly number[] = [exitCodes.unknown, exitCodes.unsigned];
  const trueCodes = Object.values(exitCodes).filter((code) => code >= exitCodes.partial && !ofOthers.includes(code));
  assert.deepEqual(row('true code').map(Number), trueCodes);
  assert.deepEqual(
    row('with `open`').map(Number),
    trueCodes.map((code) => code + TOLERATED),
  );
});
