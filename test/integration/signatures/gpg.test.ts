import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { openSigned } from '../../../agent/signatures/gpg.ts';

describe('a GPG signature, made by gpg and opened by gpgv,', () => {
  let work: string;
  const text = 'what was signed';

  const gpg = async (home: string, ...args: readonly string[]): Promise<string> =>
    await output(execOnLinux, 'gpg', ['--homedir', join(work, home), '--batch', '--quiet', '--yes', ...args]);

  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'prestage-gpg-'));
    await writeFile(join(work, 'text'), text);
    for (const home of ['one', 'two']) {
      await output(execOnLinux, 'mkdir', ['-m', '0700', join(work, home)]);
      await gpg(home, '--passphrase', '', '--quick-generate-key', `${home}@example.com`, 'rsa2048', 'sign');
      await gpg(home, '--output', join(work, `${home}.asc`), '--armor', '--export');
      await gpg(home, '--output', join(work, `${home}.gpg`), '--export');
      await gpg(home, '--output', join(work, `${home}.signed`), '--sign', join(work, 'text'));
    }
  });

  after(async () => {
    for (const home of ['one', 'two']) await execOnLinux('gpgconf', ['--homedir', join(work, home), '--kill', 'all']);
    await rm(work, { recursive: true, force: true });
  });

  const open = async (message: string | Buffer, ...keys: readonly string[]): Promise<Buffer | string> =>
    await openSigned(execOnLinux, work, {
      message: typeof message === 'string' ? await readFile(join(work, message)) : message,
      keys: await Promise.all(keys.map(async (key) => await readFile(join(work, key)))),
    });

  it('gives its text, by an armored key, a binary one, and one of two', async () => {
    assert.equal(String(await open('one.signed', 'one.asc')), text);
    assert.ok(Buffer.isBuffer(await open('one.signed', 'one.gpg')));
    assert.ok(Buffer.isBuffer(await open('two.signed', 'one.asc', 'two.gpg')));
  });

  it('is refused by another key, and when it is cut short or is something else, and leaves nothing behind', async () => {
    const before = await readdir(work);
    assert.equal(await open('one.signed', 'two.asc'), 'the signature was made with another key');
    const whole = await readFile(join(work, 'one.signed'));
    assert.match(String(await open(whole.subarray(0, whole.length / 2), 'one.asc')), /^gpgv rejects the signature: /);
    assert.match(String(await open(Buffer.from('no signature'), 'one.asc')), /^gpgv rejects the signature: /);
    assert.deepEqual(await readdir(work), before);
  });

  it('is not checked without gpgv, and says so', async () => {
    const message = await readFile(join(work, 'one.signed'));
    const without = async (): Promise<never> => await execOnLinux('/nowhere/gpgv', []).then(() => assert.fail());
    assert.equal(
      await openSigned(without, work, { message, keys: [] }),
      'gpgv is not installed on this machine, so the signature cannot be checked',
    );
  });
});
