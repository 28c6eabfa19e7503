import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { type Receiver, type Session, startReceiver } from '../../../../agent/factory/pull/receiver.ts';
import type { ResolvedImage } from '../../../../agent/factory/pull/resolve.ts';
import { type BlobStore, createBlobStore } from '../../../../agent/factory/shared/blob-store.ts';
import { plainAct } from '../../../../agent/host/acts.ts';
import { digestOf, hexOf } from '../../../../agent/model/digest.ts';
import { parseReference } from '../../../../agent/model/reference.ts';

const layer = Buffer.from('the bytes of a layer');
const bytes = Buffer.from('{"schemaVersion":2,"manifests":[]}');
const top = { digest: digestOf(bytes), bytes, manifest: { kind: 'index', instances: [] } } as const;
const image: ResolvedImage = {
  listed: { text: 'q.io/a:1', reference: parseReference('q.io/a:1'), line: 1, archiveName: 'a_1' },
  reference: 'q.io/a:1',
  top,
  mediaType: 'application/vnd.oci.image.index.v1+json',
  manifests: [top],
  absent: [],
  blobs: [{ digest: digestOf(layer), sizeBytes: layer.length, mediaType: '' }],
};

const faultOf = ({ fault }: Session) => fault?.code;

describe('the receiver of a pull', () => {
  let work: string;
  let blobs: string;
  let store: BlobStore;
  let receiver: Receiver;
  let session: Session;
  let received: number;

  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'receiver-'));
  });
  beforeEach(async () => {
    const scratch = await mkdtemp(join(work, 'scratch-'));
    blobs = join(scratch, 'blobs');
    await mkdir(blobs);
    received = 0;
    store = createBlobStore({ directory: blobs, scratch, hash: async (path) => digestOf(await readFile(path)), act: plainAct });
    receiver = await startReceiver(store, scratch);
    session = await receiver.open(image, (count) => {
      received += count;
    });
  });
  afterEach(async () => await receiver[Symbol.asyncDispose]());
  after(async () => await rm(work, { recursive: true }));

  /** One request as skopeo makes it. */
  async function ask(method: string, path: string, options: { readonly body?: Buffer; readonly login?: boolean } = {}) {
    const base = `http://${session.destination.replace(/^docker:\/\/|\/.*$/g, '').split('/')[0]}`;
    const [login] = Object.values<{ auth: string }>(JSON.parse(await readFile(session.authFile, 'utf8')).auths);
    return await fetch(new URL(path, base), {
      method,
      ...(options.body && { body: new Uint8Array(options.body) }),
      headers: options.login === false ? {} : { authorization: `Basic ${login?.auth}` },
    });
  }

  async function upload(body: Buffer, digest: string): Promise<number> {
    const location = (await ask('POST', '/v2/pull/blobs/uploads/')).headers.get('location') ?? '';
    const patched = await ask('PATCH', location, { body });
    return patched.ok ? (await ask('PUT', `${location}?digest=${encodeURIComponent(digest)}`)).status : patched.status;
  }

  it('answers nobody without the login of a running transfer', async () => {
    const refused = await ask('GET', '/v2/', { login: false });
    assert.deepEqual([refused.status, refused.headers.get('www-authenticate')], [401, 'Basic realm="pull"']);
    assert.equal((await ask('GET', '/v2/')).status, 200);
    const authorized = await readFile(session.authFile, 'utf8');
    await session[Symbol.asyncDispose]();
    const { auth } = Object.values<{ auth: string }>(JSON.parse(authorized).auths)[0] ?? { auth: '' };
    const host = session.destination.split('/')[2] ?? '';
    assert.equal((await fetch(`http://${host}/v2/`, { headers: { authorization: `Basic ${auth}` } })).status, 401);
  });

  it('takes a blob that the image needs, and says then that it is there', async () => {
    const { digest } = image.blobs[0] ?? { digest: '' };
    assert.equal((await ask('HEAD', `/v2/pull/blobs/${digest}`)).status, 404);
    assert.equal(await upload(layer, digest), 201);
    const head = await ask('HEAD', `/v2/pull/blobs/${digest}`);
    assert.deepEqual([head.status, head.headers.get('content-length')], [200, String(layer.length)]);
    assert.deepEqual([await readdir(blobs), received], [[hexOf(digestOf(layer))], layer.length]);
  });

  it('names no blob whose bytes are others, that the image does not need, or that is too long', async () => {
    const changed = Buffer.from(layer);
    changed[0] = 0;
    assert.equal(await upload(changed, digestOf(layer)), 400);
    assert.equal(await upload(changed, digestOf(changed)), 400);
    assert.equal(await upload(layer, 'sha256:../../etc/passwd'), 400);
    assert.equal(faultOf(session), undefined);
    await upload(Buffer.concat([layer, layer]), digestOf(layer)).catch(() => undefined);
    assert.equal(faultOf(session), 'ERR_PULL_DIGEST');
    assert.deepEqual([await readdir(blobs), store.has(digestOf(layer))], [[], false]);
  });

  it('takes only the manifests that the image was resolved to', async () => {
    assert.equal((await ask('PUT', '/v2/pull/manifests/image', { body: bytes })).status, 201);
    assert.equal((await ask('PUT', '/v2/pull/manifests/image', { body: Buffer.from('{}') })).status, 400);
  });

  it('knows no other paths', async () => {
    for (const path of ['/v2/pull/blobs/../../x', '/v2/other/blobs/uploads/', '/v2/pull/blobs/uploads/ffff', '/']) {
      assert.equal((await ask('PATCH', path, { body: layer })).status, 404, path);
    }
  });
});
