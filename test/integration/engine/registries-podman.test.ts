import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mirrorDialect } from '../../../agent/engine/registries-dialect.ts';
import { DROP_IN_PATH, type MirrorRequest, renderDropIn } from '../../../agent/engine/registries-drop-in.ts';
import { rewriteRegistries } from '../../../agent/engine/registries-rewrite.ts';
import { mirrorSources } from '../../../agent/engine/registries-sources.ts';
import { REGISTRIES_CONF, readRegistries } from '../../../agent/engine/registries-view.ts';
import type { Host } from '../../../agent/host/host.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { nameOf, parseReference } from '../../../agent/model/reference.ts';
import { makeLayer } from '../../support/image-layer.ts';
import { type MadeImage, makeImage, writeDirLayout } from '../../support/images.ts';
import { type NodeSandbox, openSandbox, sandboxUnavailable } from '../../support/sandbox.ts';

// Real podman against three real registries in a sandbox of its own: ours, a mirror that was there before, and the source.
// Each image lies in some of them, and the access log says who was asked for it, in which order.

const OURS = '127.0.0.1:5001';
/** Where a repository `source.test/org/NAME` is in each, in the order in which they should be asked. */
const PLACES = { ours: '/source.test/org/', mirror: '/mirrored/', source: '/org/' } as const;
type Place = keyof typeof PLACES;
const HOSTS: Readonly<Record<Place, string>> = { ours: OURS, mirror: 'mirror.test', source: 'source.test' };
/** In which registries each image lies. */
const IMAGES: Readonly<Record<string, readonly Place[]>> = {
  everywhere: ['ours', 'mirror', 'source'],
  mirrored: ['mirror', 'source'],
  only: ['source'],
};
const LOG = '/var/tmp/access.log';
const DROP_IN_DIRECTORY = dirname(DROP_IN_PATH);

/** As the cluster has it for a mirror of `source.test/org`. HTTP is allowed because these registries have no certificates. */
const CLUSTER = `unqualified-search-registries = ['registry.access.redhat.com', 'docker.io']

# made for a set of mirrors
[[registry]]
  prefix = ""
  location = "source.test/org"
  insecure = true

  [[registry.mirror]]
    location = "mirror.test/mirrored"
    insecure = true
`;

const unavailable = sandboxUnavailable();
const made = new Map<string, MadeImage>();
let work = '';
let node: NodeSandbox;
let host: Host;

before(async () => {
  if (unavailable !== undefined) return;
  work = await mkdtemp(join(tmpdir(), 'registries-'));
  node = await openSandbox({ files: { '/etc/hosts': '127.0.0.1 localhost\n127.0.0.2 mirror.test\n127.0.0.3 source.test\n' } });
  host = linuxHost({ root: node.path('/'), log: () => {}, env: {} });
  await Promise.all([serve('ours', OURS), serve('mirror', '127.0.0.2:80'), serve('source', '127.0.0.3:80')]);
  for (const [name, places] of Object.entries(IMAGES)) {
    const layer = await makeLayer(work, [{ kind: 'file', path: 'name', content: name }]);
    const image = await makeImage(work, { name: `source.test/org/${name}`, tag: 'v1', format: 'oci', layers: [layer] });
    made.set(name, image);
    await writeDirLayout(work, image, join(work, name));
    for (const place of places) {
      const to = `docker://${HOSTS[place]}${PLACES[place]}${name}:v1`;
      await node.output('skopeo', ['copy', '-q', '--dest-tls-verify=false', '--preserve-digests', `dir:${join(work, name)}`, to]);
    }
  }
});

after(async () => {
  if (unavailable !== undefined) return;
  await node[Symbol.asyncDispose]();
  await rm(work, { recursive: true });
});

/** Starts a registry whose access log goes to the common file. */
async function serve(place: Place, address: string): Promise<void> {
  const config = join(work, `${place}.json`);
  const storage = { filesystem: { rootdirectory: `/var/tmp/${place}` } };
  await writeFile(config, JSON.stringify({ version: 0.1, log: { level: 'info' }, storage, http: { addr: address, secret: 'for tests' } }));
  node.start('sh', ['-c', `exec docker-registry serve ${config} >> ${LOG} 2>&1`]);
  for (let tries = 0; (await node.exec('curl', ['-sf', `http://${address}/v2/`])).exitCode !== 0; tries += 1) {
    assert.ok(tries < 100, `the registry at ${address} did not answer`);
    await sleep(50);
  }
}

interface Setting {
  /** registries.conf as it was. */
  readonly main?: string;
  /** Drop-ins of others by name. */
  readonly dropIns?: Readonly<Record<string, string>>;
  readonly request?: Partial<MirrorRequest>;
  /** Whether the main file is rewritten instead of a drop-in written. */
  readonly rewrite?: boolean;
}

/** Puts registries.conf in its place, and ours as the agent would; gives the notices. */
async function configure(setting: Setting): Promise<readonly string[]> {
  await rm(node.path(DROP_IN_DIRECTORY), { recursive: true, force: true });
  await node.output('mkdir', ['-p', DROP_IN_DIRECTORY]);
  const main = setting.main ?? CLUSTER;
  await writeFile(node.path(REGISTRIES_CONF), main);
  for (const [name, text] of Object.entries(setting.dropIns ?? {})) await writeFile(node.path(join(DROP_IN_DIRECTORY, name)), text);
  const references = Object.keys(IMAGES).map((name) => `source.test/org/${name}:v1`);
  const request = { sources: mirrorSources(references, [OURS]), insecure: true, block: false, ...setting.request };
  const view = await readRegistries(host);
  const dialect = await mirrorDialect(host);
  const { text, notices } = setting.rewrite ? rewriteRegistries(main, view, { request, dialect }) : renderDropIn(view, request, dialect);
  await writeFile(node.path(setting.rewrite ? REGISTRIES_CONF : DROP_IN_PATH), text);
  return notices;
}

/** Pulls an image that is not there and tells who was asked for its manifest, in order, and whether it came. */
async function pull(reference: string): Promise<{ readonly asked: readonly Place[]; readonly came: boolean }> {
  await node.exec('podman', ['rmi', '--all', '--force']);
  await truncate(node.path(LOG));
  const { exitCode } = await node.exec('podman', ['pull', '-q', reference]);
  const path = nameOf(parseReference(reference)).slice('source.test/org/'.length);
  const requests = (await readFile(node.path(LOG), 'utf8')).matchAll(/"(?:GET|HEAD) \/v2(\/\S+)\/manifests\/\S+ HTTP/g);
  const asked = [...requests].flatMap(([, repository]) => {
    const place = (['ours', 'mirror', 'source'] as const).find((candidate) => repository === PLACES[candidate] + path);
    return place === undefined ? [] : [place];
  });
  return { asked: asked.filter((place, index) => place !== asked[index - 1]), came: exitCode === 0 };
}

const byTag = (name: string): string => `source.test/org/${name}:v1`;
const byDigest = (name: string): string => `source.test/org/${name}@${made.get(name)?.digest}`;

const onNode = (what: string, act: () => Promise<void>): void => {
  it(what, async (t) => {
    if (unavailable === undefined) await act();
    else t.skip(unavailable);
  });
};

for (const rewrite of [false, true]) {
  const by = rewrite ? 'by a rewritten registries.conf' : 'by a drop-in';

  onNode(`${by} podman asks ours first, then the mirror that was there, then the source, for tags and digests`, async () => {
    assert.deepEqual(await configure({ rewrite }), []);
    for (const reference of [byTag, byDigest]) {
      assert.deepEqual(await pull(reference('everywhere')), { asked: ['ours'], came: true });
      assert.deepEqual(await pull(reference('mirrored')), { asked: ['ours', 'mirror'], came: true });
      assert.deepEqual(await pull(reference('only')), { asked: ['ours', 'mirror', 'source'], came: true });
    }
  });

  onNode(`${by} ours answers tags also where the mirrors are for digests only, and these stay so`, async () => {
    const main = CLUSTER.replace('  insecure = true\n', '  insecure = true\n  mirror-by-digest-only = true\n');
    assert.deepEqual(await configure({ main, rewrite }), []);
    assert.deepEqual(await pull(byTag('everywhere')), { asked: ['ours'], came: true });
    assert.deepEqual(await pull(byTag('mirrored')), { asked: ['ours', 'source'], came: true });
    assert.deepEqual(await pull(byDigest('mirrored')), { asked: ['ours', 'mirror'], came: true });
  });

  onNode(`${by} a blocked source is not asked, and mirrors still are`, async () => {
    await configure({ rewrite, request: { block: true } });
    assert.deepEqual(await pull(byTag('everywhere')), { asked: ['ours'], came: true });
    assert.deepEqual(await pull(byTag('mirrored')), { asked: ['ours', 'mirror'], came: true });
    assert.deepEqual(await pull(byTag('only')), { asked: ['ours', 'mirror'], came: false });
  });

  onNode(`${by} a source that leads elsewhere is blocked, too, where that is asked for`, async () => {
    const main = '[[registry]]\nprefix = "moved.test"\nlocation = "source.test"\ninsecure = true\n';
    const request = { sources: [{ prefix: 'moved.test/org/only', mirrors: [`${OURS}/nothing`] }] };
    await configure({ main, rewrite, request });
    assert.equal((await node.exec('podman', ['pull', '-q', 'moved.test/org/only:v1'])).exitCode, 0);
    await configure({ main, rewrite, request: { ...request, block: true } });
    const refused = await node.exec('podman', ['pull', '-q', 'moved.test/org/only:v1']);
    assert.match(refused.stderr, /registry moved\.test\/org\/only is blocked/);
  });
}

onNode('where ours does not answer, podman goes on with what was there before', async () => {
  const sources = [{ prefix: 'source.test/org/everywhere', mirrors: ['127.0.0.1:5999/nobody', '127.0.0.1:5998/nobody'] }];
  await configure({ request: { sources } });
  assert.deepEqual(await pull(byTag('everywhere')), { asked: ['mirror'], came: true });
});

onNode('a wildcard that was configured goes on behind ours', async () => {
  const main =
    '[[registry]]\nprefix = "*.test"\ninsecure = true\n[[registry.mirror]]\nlocation = "mirror.test/mirrored"\ninsecure = true\n';
  await configure({ main });
  assert.deepEqual(await pull(byTag('everywhere')), { asked: ['ours'], came: true });
  assert.deepEqual(await pull(byTag('only')), { asked: ['ours', 'source'], came: true });
  const text = await readFile(node.path(DROP_IN_PATH), 'utf8');
  assert.ok(text.includes('location = "mirror.test/mirrored/org/only"'), text);
});

onNode('what a drop-in of others blocks stays blocked, and our mirror answers for it', async () => {
  await configure({ main: '', dropIns: { '10-site.conf': '[[registry]]\nlocation = "source.test"\ninsecure = true\nblocked = true\n' } });
  assert.deepEqual(await pull(byTag('everywhere')), { asked: ['ours'], came: true });
  assert.deepEqual(await pull(byTag('only')), { asked: ['ours'], came: false });
});

onNode('an entry of a longer prefix than ours does not go around ours', async () => {
  const main = '[[registry]]\nlocation = "source.test/org/everywhere"\ninsecure = true\n';
  await configure({ main, request: { sources: [{ prefix: 'source.test/org', mirrors: [`${OURS}/source.test/org`] }] } });
  assert.deepEqual(await pull(byTag('everywhere')), { asked: ['ours'], came: true });
});

onNode('a drop-in that is read after ours replaces it, as the notice says', async () => {
  const late = '[[registry]]\nlocation = "source.test/org/everywhere"\ninsecure = true\n';
  assert.deepEqual(await configure({ main: '', dropIns: { '99-late.conf': late } }), [
    `${DROP_IN_DIRECTORY}/99-late.conf is read after ${DROP_IN_PATH} and overrides it for source.test/org/everywhere: rename it so that it is read before; otherwise engines do not ask our mirrors`,
  ]);
  assert.deepEqual(await pull(byTag('everywhere')), { asked: ['source'], came: true });
});

onNode('entries of one place that disagree make a file unreadable for podman, which is why one of them is left out', async () => {
  const entry = (prefix: string, insecure: boolean): string =>
    `[[registry]]\nprefix = "${prefix}"\nlocation = "source.test"\ninsecure = ${insecure}\n`;
  const dropIns = { '10-a.conf': entry('a.test', true), '20-b.conf': entry('b.test', false) };
  const sources = ['a.test/r', 'b.test/r'].map((prefix) => ({ prefix, mirrors: [`${OURS}/${prefix}`] }));
  const notices = await configure({ main: CLUSTER, dropIns, request: { sources } });
  assert.deepEqual(notices, [
    'b.test/r gets no mirror of ours: it leads to source.test/r, like a.test/r, but with another "insecure" or "blocked"',
  ]);
  assert.deepEqual(await pull(byTag('everywhere')), { asked: ['mirror'], came: true });
  await writeFile(node.path(DROP_IN_PATH), entry('a.test/r', true) + entry('b.test/r', false));
  const { exitCode, stderr } = await node.exec('podman', ['pull', '-q', byTag('everywhere')]);
  assert.equal(exitCode, 125);
  assert.match(stderr, /defined multiple times with conflicting 'insecure' setting/);
});

onNode('a file of the root user hides the files in /etc from podman, as the notice says', async () => {
  const personal = node.path('/root/.config/containers/registries.conf');
  await node.output('mount', ['-t', 'tmpfs', 'tmpfs', '/root']);
  await node.output('mkdir', ['-p', '/root/.config/containers']);
  await writeFile(personal, CLUSTER);
  try {
    assert.deepEqual(await configure({}), [
      'podman reads /root/.config/containers/registries.conf for root, and nothing in /etc/containers: move that file away; otherwise engines do not ask our mirrors',
    ]);
    assert.deepEqual(await pull(byTag('everywhere')), { asked: ['mirror'], came: true });
  } finally {
    await node.output('umount', ['/root']);
  }
});
