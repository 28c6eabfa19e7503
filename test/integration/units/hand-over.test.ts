import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import type { Stage } from '../../../agent/model/stage.ts';
import { runIgnition } from '../../../agent/units/ignition.ts';
import { embedArchive } from '../../../agent/units/size.ts';
import { author, PIN } from '../../support/ignition.ts';

interface Received {
  readonly line: string;
  readonly contentType: string | undefined;
  readonly authorization: string | undefined;
  readonly body: string;
}

/** Runs a script with curl against a server on loopback that answers with the status, and gives what arrived there. */
async function runAgainstServer(script: string, options: { readonly token: string; readonly status: number }) {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    void describe(request).then((one) => {
      received.push(one);
      response.writeHead(options.status).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const env = {
      ASSISTED_URL: `http://127.0.0.1:${port}`,
      INFRA_ENV_ID: 'infra-1',
      HOST_ID: 'host-1',
      TOKEN: options.token,
      no_proxy: '*',
    };
    const { exitCode } = await execOnLinux('bash', ['-euc', script], { env });
    return { received, exitCode };
  } finally {
    server.close();
  }
}

async function describe(request: IncomingMessage): Promise<Received> {
  const { authorization, 'content-type': contentType } = request.headers;
  return { line: `${request.method} ${request.url}`, contentType, authorization, body: await text(request) };
}

const calls: readonly {
  readonly stage: Stage;
  readonly path: string;
  readonly token: string;
  readonly authorization: string | undefined;
}[] = [
  { stage: 'discovery', path: '/infra-envs/infra-1', token: '', authorization: undefined },
  { stage: 'installed', path: '/infra-envs/infra-1/hosts/host-1/ignition', token: 'a b', authorization: 'Bearer a b' },
];

for (const { stage, path, token, authorization } of calls) {
  test(`the curl command of the ${stage} override sends exactly the body of --as patch, and of --as installer-args after it`, async () => {
    const options = { stage, agentSha256: PIN };
    const script = (await runIgnition({ ...options, as: 'curl' }, author)).text;
    const body = (await runIgnition({ ...options, as: 'patch' }, author)).text;
    const head = { contentType: 'application/json', authorization };
    const second =
      stage === 'discovery'
        ? []
        : [
            {
              line: 'PATCH /api/assisted-install/v2/infra-envs/infra-1/hosts/host-1/installer-args',
              ...head,
              body: (await runIgnition({ ...options, as: 'installer-args' }, author)).text,
            },
          ];
    assert.deepEqual(await runAgainstServer(script, { token, status: 201 }), {
      received: [{ line: `PATCH /api/assisted-install/v2${path}`, ...head, body }, ...second],
      exitCode: 0,
    });
  });
}

test('the curl command fails where the service refuses the override', async () => {
  const script = (await runIgnition({ stage: 'discovery', agentSha256: PIN, as: 'curl' }, author)).text;
  assert.equal((await runAgainstServer(script, { token: '', status: 400 })).exitCode, 22);
  const both = (await runIgnition({ stage: 'installed', agentSha256: PIN, as: 'curl' }, author)).text;
  const { exitCode, received } = await runAgainstServer(both, { token: '', status: 400 });
  assert.deepEqual([exitCode, received.length], [22, 1], 'the second call follows a refused one');
});

test('cpio reads the archive whose size is measured', async (t) => {
  const found = await execOnLinux('sh', ['-c', 'command -v cpio']);
  if (found.exitCode !== 0) return t.diagnostic('went without cpio, which is not installed; a unit test holds the bytes of the archive');
  const directory = await mkdtemp(join(tmpdir(), 'ignition-cpio-'));
  try {
    await writeFile(join(directory, 'archive.gz'), embedArchive('{"ignition":{}}\n'));
    await output(execOnLinux, 'sh', ['-c', 'gunzip -c archive.gz | cpio --extract --quiet'], { cwd: directory });
    assert.equal(await readFile(join(directory, 'config.ign'), 'utf8'), '{"ignition":{}}\n');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
