import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { test } from 'node:test';
import type { Terminal } from '../../../agent/cli/context.ts';
import { authFileText, loginFile, parseCreds, registryFor } from '../../../agent/cli/creds.ts';
import { loginIn, parseLogins } from '../../../agent/factory/web/logins.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { runHere } from '../../support/program.ts';

const never = new AbortController().signal;
const terminal: Terminal = { out: { write: () => undefined }, err: { write: () => undefined }, env: {}, stop: never, kill: never };

test('credentials are a user and, after the first colon, a password', () => {
  assert.deepEqual(parseCreds('me:a:b'), { user: 'me', password: 'a:b' });
  assert.deepEqual(parseCreds('me'), { user: 'me', password: undefined });
  assert.throws(() => parseCreds(':secret'), {
    code: 'ERR_USAGE',
    message: '--creds has no user',
    remedy: 'Give --creds USER or --creds USER:PASSWORD',
  });
});

test('credentials go to one registry only', () => {
  assert.equal(registryFor(['docker://r.example:5000/a:1', 'r.example:5000/b']), 'r.example:5000');
  assert.throws(() => registryFor(['quay.io/a:1', 'r.example/b:1']), {
    code: 'ERR_USAGE',
    message: '--creds is for one registry, but the images are in 2: quay.io, r.example',
    remedy: 'Give --authfile with a login for each of them',
  });
  assert.throws(() => registryFor(['/srv/Layout']), {
    code: 'ERR_USAGE',
    message: '--creds is for a registry, but "/srv/Layout" is not in one',
    remedy: 'Omit --creds',
  });
});

test('the file is an auth file with the login for that registry alone', () => {
  const file = parseLogins(authFileText('r.example:5000', { user: 'me', password: 'a:b' }), 'auth.json');
  assert.deepEqual(loginIn(file, 'r.example:5000/team/a'), { user: 'me', password: 'a:b' });
  assert.equal(loginIn(file, 'quay.io/team/a'), undefined);
});

test('the file is private, and disposing of the login removes it', async () => {
  let path: string;
  {
    await using login = await loginFile(terminal, 'me:secret', ['r.example/a:1']);
    path = login.file;
    const { mode } = await stat(path);
    assert.equal(mode & 0o777, 0o600);
  }
  await assert.rejects(stat(path), { code: 'ENOENT' });
});

test('without a terminal a missing password is an error', async () => {
  assert.deepEqual(await loginFile(terminal, 'me', ['r.example/a:1']).catch(errorRecord), {
    code: 'ERR_USAGE',
    message: '--creds has no password, and there is no terminal on which to ask for it',
    remedy: 'Give --authfile FILE, which no process list shows, or --creds USER:PASSWORD',
  });
});

test('--creds and --authfile exclude each other', async () => {
  const both = ['--creds', 'me:secret', '--authfile', 'auth.json'];
  for (const words of [
    ['pull', '--list', 'l', '--to', 't'],
    ['images', 'release', 'r.example/a:1'],
    ['images', 'operators', 'r.example/a:1', '--package', 'p'],
  ]) {
    const { exitCode, stderr } = await runHere([...words, ...both]);
    assert.equal(exitCode, 2);
    assert.match(stderr, /--authfile and --creds exclude each other/);
    assert.doesNotMatch(stderr, /secret/);
  }
});
