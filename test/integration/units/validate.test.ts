import assert from 'node:assert/strict';
import { test } from 'node:test';
import { execOnLinux } from '../../../agent/host/exec.ts';
import { accepted, faulty } from '../../support/ignition-faults.ts';

/** Whether the real ignition-validate takes a config; warnings do not count. */
async function isTaken(config: object): Promise<boolean> {
  const { exitCode, stdout, stderr } = await execOnLinux('ignition-validate', ['-'], { input: JSON.stringify(config) });
  assert.ok(exitCode === 0 || `${stdout}${stderr}`.includes('error at '), stdout);
  return exitCode === 0;
}

test('what we accept, and what we only warn of, Ignition accepts', async () => {
  const harmless = faulty.filter(({ faults }) => faults.every(({ kind }) => kind === 'warning')).map(({ config }) => config);
  const refused: object[] = [];
  for (const config of [...accepted, ...harmless]) if (!(await isTaken(config))) refused.push(config);
  assert.deepEqual(refused, []);
});

test('what we refuse Ignition refuses, except modes that were meant as octal and a hash that it would find wrong on the node', async () => {
  const taken: string[] = [];
  for (const { title, config, faults } of faulty) {
    if (faults.some(({ kind }) => kind === 'error') && (await isTaken(config))) taken.push(title);
  }
  assert.deepEqual(taken, ['the decimal mode 755', 'the decimal mode 644', 'the decimal mode 755 of a directory', 'the hash sha512-xxxxx']);
});
