import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { findLogin } from '../../../../agent/factory/web/logins.ts';
import { execOnLinux } from '../../../../agent/host/exec.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');

describe('the login of a repository', () => {
  it('comes from the first file of the user that has one, and from a helper', async () => {
    const home = await mkdtemp(join(tmpdir(), 'logins-'));
    try {
      const helper = join(home, 'docker-credential-prestage-test');
      const found = JSON.stringify({ Username: '<token>', Secret: 's' });
      await writeFile(
        helper,
        `#!/bin/sh\nread -r name\n[ "$name" = helped.example.com ] && echo '${found}' && exit\necho credentials not found in native keychain\nexit 1\n`,
      );
      await chmod(helper, 0o755);
      const exec: typeof execOnLinux = async (file, args, options) => await execOnLinux(join(home, file), args, options);
      const env = { HOME: home, XDG_RUNTIME_DIR: join(home, 'run') };
      await mkdir(join(home, '.config/containers'), { recursive: true });
      await mkdir(join(home, '.docker'));
      await writeFile(join(home, '.config/containers/auth.json'), JSON.stringify({ auths: { 'quay.io': { auth: base64('u:p') } } }));
      await writeFile(join(home, '.docker/config.json'), JSON.stringify({ credsStore: 'prestage-test' }));
      const loginOf = async (name: string, authFile?: string) => await findLogin(name, { exec, env, authFile });
      assert.deepEqual(await loginOf('quay.io/a'), { user: 'u', password: 'p' });
      assert.deepEqual(await loginOf('helped.example.com/a'), { identityToken: 's' });
      assert.equal(await loginOf('other.example.com/a'), undefined);
      assert.equal(await loginOf('quay.io/a', join(home, 'none.json')), undefined);
    } finally {
      await rm(home, { recursive: true });
    }
  });
});
