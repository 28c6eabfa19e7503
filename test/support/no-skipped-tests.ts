import { globSync, readFileSync } from 'node:fs';

/**
 * Tests that never run, or that keep others from running: `.skip(`, `.todo(`, `.only(` on a test, and `skip`, `todo` or `only` set
 * to a constant among its options. `t.skip('why')` inside a test is no match: it prints its reason, and .ci/run counts it as a failure.
 */
const PATTERNS = [/\b(?:test|it|describe|suite)\.(?:skip|todo|only)\b/, /\b(?:skip|todo|only):\s*(?:true|['"`])/, /\bt(?:est)?\.todo\(/];

/** Lines of a test file, as `NAME:NUMBER: TEXT`, that skip, postpone or single out a test. */
export function skippedIn(name: string, text: string): readonly string[] {
  return text
    .split('\n')
    .flatMap((line, index) => (PATTERNS.some((pattern) => pattern.test(line)) ? [`${name}:${index + 1}: ${line.trim()}`] : []));
}

if (import.meta.main) {
  const found = globSync('test/**/*.test.ts').flatMap((name) => skippedIn(name, readFileSync(name, 'utf8')));
  for (const line of found) process.stderr.write(`${line}\n`);
  if (found.length > 0) process.stderr.write('Let every test run: remove skip, todo and only.\n');
  process.exitCode = found.length > 0 ? 1 : 0;
}
