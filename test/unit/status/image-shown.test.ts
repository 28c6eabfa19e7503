import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { linuxHost } from '../../../agent/host/linux.ts';
import { digestOf } from '../../../agent/model/digest.ts';
import { askForImage } from '../../../agent/status/image-shown.ts';
import { digestFor } from '../../support/source-images.ts';

const host = { ...linuxHost({ root: '/', env: {}, log: () => undefined }), architecture: 'arm64' };
const list = (...architectures: readonly string[]): string =>
  JSON.stringify({
    schemaVersion: 2,
    manifests: architectures.map((architecture) => ({ digest: digestFor(architecture), size: 7, platform: { os: 'linux', architecture } })),
  });

/** Has lists by their tags and nothing else, as a mirror that was filled with no platform at all. */
const server = createServer(({ url = '' }, response) => {
  const tag = url.replace('/v2/quay.io/e/app/manifests/', '');
  response.writeHead(tag.startsWith('sha256:') ? 404 : 200).end(tag.startsWith('sha256:') ? '' : list(...tag.split('-')));
});
let port = 0;
before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  port = typeof address === 'object' && address !== null ? address.port : assert.fail();
});
after(() => server.close());

const ask = async (tag: string) =>
  await askForImage(host, { host: '127.0.0.1', port, timeoutMs: 5000 }, `127.0.0.1:${port}/quay.io/e/app:${tag}`);

test('a registry that has a list and not the image for this machine is no place to pull from', async () => {
  const both = list('amd64', 'arm64');
  assert.deepEqual(await ask('amd64-arm64'), {
    lacks: `it has the list ${digestOf(both)}, but not ${digestFor('arm64')}, which the list names for linux/arm64`,
  });
});

test('a registry whose list has no image for this machine says so', async () => {
  assert.deepEqual(await ask('amd64'), { lacks: `its list ${digestOf(list('amd64'))} has no image for linux/arm64` });
});
