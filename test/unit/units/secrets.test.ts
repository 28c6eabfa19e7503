import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { folderUrl } from '../../../agent/factory/fetch/source.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { runIgnition } from '../../../agent/units/ignition.ts';
import { author, PIN } from '../../support/ignition.ts';

const SECRET = 'hunter2-5f1c9a';
const ENCODED = Buffer.from(SECRET).toString('base64');

const file = (contents: object): object => ({ storage: { files: [{ path: '/root/.docker/config.json', mode: 384, contents }] } });
const unit = (contents: string): object => ({ systemd: { units: [{ name: 'login.service', contents }] } });

/** Overrides with a fault beside a secret. */
const faulty: Readonly<Record<string, object>> = {
  'content that is not padded': file({ source: `data:;base64,${ENCODED.slice(0, 19)}` }),
  'content with a character that must be escaped': file({ source: `data:,${SECRET} x` }),
  'content without a comma': file({ source: `data:${SECRET}` }),
  'content where an address should be': file({ source: ENCODED }),
  'an address of an unknown scheme': file({ source: `ftp://user:${SECRET}@host.example/file?token=${SECRET}` }),
  'a line that is out of place in a unit': unit(`[Service]\nExecStart=/bin/login\n  ${SECRET}\n`),
  'a name of a unit': { systemd: { units: [{ name: 'login', contents: `[Service]\nEnvironment=PASSWORD=${SECRET}\n` }] } },
};

describe('a secret in an override that is merged with', () => {
  let scratch = '';
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'ignition-secrets-'));
  });
  after(async () => await rm(scratch, { recursive: true, force: true }));
  const told = async (text: string): Promise<string> => {
    const merge = join(scratch, 'override.ign');
    await writeFile(merge, text);
    return await runIgnition({ stage: 'discovery', agentSha256: PIN, merge }, author).then(
      ({ warnings }) => warnings.join('\n'),
      (error: unknown) => `${errorRecord(error).code}: ${errorRecord(error).message}`,
    );
  };

  for (const [what, override] of Object.entries(faulty)) {
    it(`is not quoted by the refusal of ${what}`, async () => {
      const message = await told(JSON.stringify({ ignition: { version: '3.1.0' }, ...override }));
      assert.match(message, /^ERR_IGNITION: /);
      for (const secret of [SECRET, ENCODED.slice(0, 19)]) assert.equal(message.includes(secret), false, message);
    });
  }

  it('is not quoted where the text is cut off or is no JSON, wherever that is', async () => {
    const text = JSON.stringify({ ignition: { version: '3.1.0' }, passwd: { users: [{ name: 'core', passwordHash: SECRET }] } });
    for (let at = 1; at < text.length; at++) {
      for (const broken of [text.slice(0, at), `${text.slice(0, at)}~${text.slice(at)}`]) {
        const message = await told(broken);
        assert.equal(/hunter|5f1c/.test(message), false, message);
      }
    }
  });

  it('is in the result, which is where it belongs, and not in its warnings', async () => {
    const merge = join(scratch, 'good.ign');
    await writeFile(merge, JSON.stringify({ ignition: { version: '3.1.0' }, ...file({ source: `data:;base64,${ENCODED}` }) }));
    const { text, warnings } = await runIgnition({ stage: 'discovery', agentSha256: PIN, merge }, author);
    assert.deepEqual([text.includes(ENCODED), warnings.some((warning) => warning.includes(ENCODED))], [true, false]);
  });
});

it('the password in an address is not quoted where that cannot be fetched from', () => {
  assert.throws(
    () => folderUrl(`ftp://user:${SECRET}@host.example/folder`),
    (error) => !errorRecord(error).message.includes(SECRET) && errorRecord(error).message.includes('ftp://host.example/folder'),
  );
});
