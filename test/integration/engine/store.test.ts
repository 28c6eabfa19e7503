import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { STORAGE_CONF, STORE_PATH } from '../../../agent/model/places.ts';
import { OWNED_MARK } from '../../../agent/system-files/file.ts';
import { waitFor } from '../../support/agent.ts';
import { makeStoreFixture, openStoreNode, type StoreFixture, type StoreNode } from '../../support/store-node.ts';

const PLAIN_CONF =
  '# theirs\n[storage]\ndriver = "overlay" # the only one\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n\n[storage.options]\nadditionalimagestores = [\n]\n';
const SET_UP = ['engine/set-up.ts'];
const RELEASE = ['engine/undo.ts'];
const release =
  '(await (async () => { const steps = await engineUndoSteps(host); for (const one of steps) await one.run(); return steps.map((one) => one.text); })())';

describe('engines and an additional image store', () => {
  let work: string;
  let fixture: StoreFixture;
  let node: StoreNode;
  let references: readonly string[];
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'engine-'));
    fixture = await makeStoreFixture(work, ({ images }) => [images.agent, images.release, images.oci]);
    const { agent, release: component, oci } = fixture.set.images;
    references = [agent, component, oci].map(({ reference }) => reference).toSorted();
  });
  after(async () => await rm(work, { recursive: true }));

  beforeEach(async (t) => {
    node = await openStoreNode(fixture);
    await writeFile(node.path('/etc/containers/storage.conf'), PLAIN_CONF);
    if (!('after' in t)) throw new Error('no test context');
    t.after(async () => await node[Symbol.asyncDispose]());
  });

  /** /etc as it is once podman has made its own directories there. */
  const etcTree = async (): Promise<Readonly<Record<string, string>>> => {
    await node.output('podman', ['images', '--quiet']);
    return await node.etcTree();
  };

  /** References that podman knows when it is started so. */
  const seen = async (env: Readonly<Record<string, string>> = {}): Promise<readonly string[]> => {
    const found = await Promise.all(
      references.map(async (reference) => (await node.exec('podman', ['image', 'exists', reference], { env })).exitCode === 0),
    );
    return references.filter((_, index) => found[index]);
  };

  it('discovery: podman and skopeo see its images once storage.conf names it, and after a release no more', async () => {
    const etc = await etcTree();
    assert.deepEqual(await seen(), []);
    const result = await node.evaluate(SET_UP, "await setUpEngines(host, { stage: 'discovery', act })");
    assert.deepEqual(result, { changed: ['/etc/containers/storage.conf'], notices: [] });
    assert.equal(
      await readFile(node.path('/etc/containers/storage.conf'), 'utf8'),
      PLAIN_CONF.replace('[\n]', `[\n    "${STORE_PATH}",\n]`),
      'everything else is kept',
    );
    assert.deepEqual(await seen(), references);
    const [reference = ''] = references;
    await node.output('skopeo', ['inspect', '--config', `containers-storage:${reference}`]);
    const ran = await node.exec('podman', ['run', '--rm', '--network=host', fixture.set.images.agent.reference, 'sh', '-c', ':']);
    assert.deepEqual([ran.exitCode, ran.stderr], [0, '']);

    assert.deepEqual(await node.evaluate(SET_UP, "await setUpEngines(host, { stage: 'discovery', act })"), { changed: [], notices: [] });
    assert.deepEqual(await node.evaluate(RELEASE, release), [
      'restore /etc/containers/storage.conf as it was',
      'forget which system files were changed',
    ]);
    assert.deepEqual(await node.etcTree(), etc);
    assert.deepEqual(await seen(), []);
    assert.deepEqual(await node.evaluate(RELEASE, release), []);
  });

  it('discovery: a node without any storage.conf gets one, and loses it at the release', async () => {
    await rm(node.path('/etc/containers/storage.conf'));
    const etc = await etcTree();
    await node.evaluate(SET_UP, "await setUpEngines(host, { stage: 'discovery', act })");
    assert.deepEqual(await seen(), references);
    assert.deepEqual(await node.evaluate(RELEASE, release), [
      'remove /etc/containers/storage.conf, which did not exist before',
      'forget which system files were changed',
    ]);
    assert.deepEqual(await node.etcTree(), etc);
  });

  it('a CRI-O that runs already is named until it is restarted, because it looks for stores only when it starts', async () => {
    // A process of that name is all that can be had of CRI-O here.
    await node.output('cp', ['/bin/sleep', '/run/crio']);
    let crio = node.start('/run/crio', ['600']);
    const notices = ['CRI-O is already running, and looks for stores only when it starts: systemctl restart crio'];
    try {
      await waitFor('crio', async () => (await node.exec('pgrep', ['--exact', 'crio'])).exitCode === 0 || undefined);
      const result = await node.evaluate(SET_UP, "await setUpEngines(host, { stage: 'discovery', act })");
      assert.deepEqual(result, { changed: ['/etc/containers/storage.conf'], notices });
      const again = async () => await node.evaluate(SET_UP, "await setUpEngines(host, { stage: 'discovery', act })");
      assert.deepEqual(await again(), { changed: [], notices });
      const steps = await node.evaluate(RELEASE, '(await engineUndoSteps(host)).map((one) => one.text)');
      assert.deepEqual(steps, [
        'restore /etc/containers/storage.conf as it was',
        'forget which system files were changed',
        'make CRI-O reload its configuration (SIGHUP); it uses the additional store until it is restarted',
      ]);
      await node.output('sh', ['-c', 'kill $(pgrep --exact crio)']);
      await waitFor('its end', async () => (await node.exec('pgrep', ['--exact', 'crio'])).exitCode === 1 || undefined);
      crio = node.start('/run/crio', ['600']);
      await waitFor('crio', async () => (await node.exec('pgrep', ['--exact', 'crio'])).exitCode === 0 || undefined);
      assert.deepEqual(await again(), { changed: [], notices: [] });
    } finally {
      crio.kill();
    }
  });

  it('installed: login shells of root and programs with the variable see its images, and no file that was there is touched', async () => {
    await mkdir(node.path('/etc/crio/crio.conf.d'), { recursive: true });
    await writeFile(node.path('/etc/crio/crio.conf.d/00-default'), '[crio]\nstorage_option = ["overlay.mountopt=nodev"]\n');
    const etc = await etcTree();
    assert.deepEqual(await node.evaluate(SET_UP, "await setUpEngines(host, { stage: 'installed', act })"), {
      changed: [STORAGE_CONF, '/etc/crio/crio.conf.d/50-prestage.conf', '/etc/profile.d/50-prestage.sh'],
      notices: [],
    });
    const { '/crio/crio.conf.d/50-prestage.conf': crio, '/profile.d/50-prestage.sh': profile, ...others } = await node.etcTree();
    assert.ok(crio !== undefined && profile !== undefined);
    assert.deepEqual(others, etc);
    assert.equal(
      await readFile(node.path('/etc/crio/crio.conf.d/50-prestage.conf'), 'utf8'),
      `${OWNED_MARK}\n[crio]\nstorage_option = [\n  "overlay.mountopt=nodev",\n  "additionalimagestore=${STORE_PATH}",\n]\n`,
    );
    assert.deepEqual(await seen(), [], 'a podman that nobody told of the store');
    assert.deepEqual(await seen({ CONTAINERS_STORAGE_CONF: STORAGE_CONF }), references);
    const shell = await node.output('bash', ['--login', '-c', 'podman images --format "{{.Repository}}"']);
    const { repository } = /^(?<repository>.*):/.exec(fixture.set.images.agent.reference)?.groups ?? {};
    assert.ok(shell.split('\n').includes(repository ?? 'none'), shell);

    // As a service or a shell that was started by now, and does not end.
    const early = { env: { CONTAINERS_STORAGE_CONF: STORAGE_CONF } };
    assert.deepEqual(await node.evaluate(RELEASE, release), [
      'remove /etc/profile.d/50-prestage.sh',
      'remove /etc/crio/crio.conf.d/50-prestage.conf',
      'forget which system files were changed',
      `keep ${STORAGE_CONF} without the store until the next boot, for services and login shells that are already running`,
    ]);
    assert.deepEqual(await node.etcTree(), etc);
    assert.deepEqual(await readdir(node.path('/run/prestage-agent')), ['storage.conf']);
    await node.loseStore();
    await rm(node.path(STORE_PATH), { recursive: true });
    assert.equal(await node.output('bash', ['--login', '-c', 'podman images --quiet']), '');
    assert.equal(await node.output('podman', ['images', '--quiet'], early), '', 'podman works for who was started before');
    assert.deepEqual(await node.evaluate(RELEASE, release), [], 'what was left is nothing to undo');
  });

  it('installed: a run after a release writes over the storage.conf that was left, and another release leaves one again', async () => {
    const set = "await setUpEngines(host, { stage: 'installed', act })";
    await node.evaluate(SET_UP, set);
    await node.evaluate(RELEASE, release);
    assert.deepEqual(await seen({ CONTAINERS_STORAGE_CONF: STORAGE_CONF }), []);
    await node.evaluate(SET_UP, set);
    assert.deepEqual(await seen({ CONTAINERS_STORAGE_CONF: STORAGE_CONF }), references);
    await node.evaluate(RELEASE, release);
    assert.deepEqual(await seen({ CONTAINERS_STORAGE_CONF: STORAGE_CONF }), []);
  });

  it('installed: where storage.conf names it already, by a MachineConfig for instance, nothing is done', async () => {
    await writeFile(node.path('/etc/containers/storage.conf'), PLAIN_CONF.replace('[\n]', `["${STORE_PATH}"]`));
    const result = await node.evaluate(SET_UP, "await setUpEngines(host, { stage: 'installed', act })");
    assert.deepEqual(result, { changed: [], notices: [] });
  });

  it('a probe says that podman takes a store, and leaves nothing behind', async () => {
    // What other tests have mounted below their own directories comes and goes here, too.
    const mounts = async () =>
      (await node.output('cat', ['/proc/self/mounts'])).split('\n').filter((line) => !line.includes(` ${tmpdir()}/`));
    const before = [await mounts(), await readdir(node.path('/run'))];
    const probe = await node.evaluate(['engine/probe.ts'], 'await probeEngines(host, STORE, { signal: new AbortController().signal })');
    assert.deepEqual(probe, { accepted: true, reason: 'podman lists the 3 images of the store' });
    assert.deepEqual([await mounts(), await readdir(node.path('/run'))], before);
    assert.deepEqual(await readdir(node.path('/var/lib/containers')), [], 'storage of the machine is not touched');
  });

  it('a probe takes an empty store, too', async () => {
    await node.loseStore();
    const probe = await node.evaluate(['engine/probe.ts'], 'await probeEngines(host, STORE, { signal: new AbortController().signal })');
    assert.deepEqual(probe, { accepted: true, reason: 'podman lists the 0 images of the store' });
  });

  it('a probe quotes podman where that refuses a store', async () => {
    await mkdir(node.path('/run/odd/overlay-images'), { recursive: true });
    await writeFile(node.path('/run/odd/overlay-images/images.json'), '[{ "id": "1", "names": 1 }]');
    const probe = await node.evaluate(
      ['engine/probe.ts'],
      "await probeEngines(host, '/run/odd', { signal: new AbortController().signal })",
    );
    const { accepted, reason } = { accepted: undefined, reason: undefined, ...Object(probe) };
    assert.equal(accepted, false);
    assert.match(String(reason), /^podman failed with exit code 125: Error: \S/);
  });

  it('a probe refuses what is no store without asking', async () => {
    const probe = await node.evaluate(
      ['engine/probe.ts'],
      "await probeEngines(host, '/run/none', { signal: new AbortController().signal })",
    );
    const path = '/run/none/overlay-images/images.json';
    assert.deepEqual(probe, { accepted: false, reason: `${path} cannot be read: it does not exist` });
  });
});
