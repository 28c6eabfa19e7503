import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { makePod, startCrioStandIn } from '../../support/crio-records.ts';
import { builtExecutable } from '../../support/executable.ts';
import type { MadeImage } from '../../support/images.ts';
import { nodeUsr } from '../../support/podman-service.ts';
import { makeStoreFixture, openStoreNode, STORE, type StoreFixture, type StoreNode } from '../../support/store-node.ts';

const MODULES = ['mount/dangling.ts', 'mount/heal-dangling.ts'];
const POD_ID = '4'.repeat(64);

/** Stands for crictl(1), which has no package: tells each call, and whether the store was there, and removes containers as CRI-O does. */
const CRICTL = `#!/bin/sh
if findmnt --noheadings ${STORE} >/dev/null; then store=mounted; else store=gone; fi
echo "$* ($store)" >> /run/crictl-calls
case "$*" in
*"rmp --force"*) podman rm --force k8s_app_web_shop_uid-of-web_0 k8s_POD_web_shop_uid-of-web_0 ;;
esac
`;

describe('containers whose records are volatile, as those of CRI-O and of podman run --rm are', () => {
  let work: string;
  let fixture: StoreFixture;
  let stored: MadeImage;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'volatile-'));
    fixture = await makeStoreFixture(work, ({ images }) => [images.release]);
    ({ release: stored } = fixture.set.images);
  });
  after(async () => await rm(work, { recursive: true, force: true }));

  const open = async () => await openStoreNode(fixture, {}, await nodeUsr());
  const pod = async (node: StoreNode) =>
    await makePod(node, { id: POD_ID, name: 'web', namespace: 'shop', container: 'app', image: stored.reference });
  const runRemoved = async (node: StoreNode) => {
    const loop = 'trap "exit 0" TERM; while :; do sleep 0.2; done';
    const how = ['run', '--rm', '--detach', '--name', 'job', '--network=host', '--pull=never'];
    await node.output('podman', [...how, stored.reference, 'sh', '-c', loop]);
  };
  const heal = async (node: StoreNode) => await node.evaluate(MODULES, 'await healDangling(host, { location, stores: [STORE], act })');
  const listed = async (node: StoreNode) =>
    (await node.output('podman', ['ps', '--all', '--external', '--format', '{{.Names}}'])).split('\n').filter((name) => name !== '');
  const agent = async (node: StoreNode, ...args: readonly string[]) => {
    const env = { PATH: `/run/bin:${process.env.PATH}` };
    return await node.exec(await builtExecutable(), args, { env });
  };
  const worksAgain = async (node: StoreNode) => {
    assert.deepEqual([await listed(node), await node.images()], [[], []]);
    await node.pull(stored);
    const text = await node.output('podman', ['run', '--rm', '--network=host', stored.reference, 'cat', '/etc/prestage-image']);
    assert.equal(text, 'release');
  };

  it('are healed when the store is lost: podman lists, pulls and runs again', async () => {
    await using node = await open();
    await pod(node);
    await runRemoved(node);
    await node.loseStore().catch(async () => void (await node.output('umount', ['--lazy', STORE])));
    assert.notEqual((await node.podman('ps', '--all', '--external', '--size')).exitCode, 0);
    const removed = await heal(node);
    assert.ok(Array.isArray(removed));
    assert.deepEqual(removed.map(String).toSorted(), [
      'container app of pod shop/web',
      'container job, which was running',
      'container the sandbox of pod shop/web',
    ]);
    await worksAgain(node);
  });

  it('are named by a release, which removes them where no CRI-O runs and nothing of a pod does', async () => {
    await using node = await open();
    await pod(node);
    await runRemoved(node);
    const plan = await agent(node, 'release', '--dry-run');
    const [, what] = plan.stdout.split('\n');
    assert.equal(
      what,
      '  remove what depends on the store image: container the sandbox of pod shop/web, container app of pod shop/web, container job, which is running',
    );
    const done = await agent(node, 'release', '--yes');
    assert.equal(done.exitCode, 0, done.stdout + done.stderr);
    assert.equal((await node.exec('findmnt', [STORE])).exitCode, 1);
    await worksAgain(node);
  });

  it('are a refusal of the release, before anything is undone, where CRI-O runs and cannot be asked to end its pods', async () => {
    await using node = await open();
    await pod(node);
    await startCrioStandIn(node);
    const before = [await node.etcHash(), await node.output('findmnt', [STORE])];
    const refused = await agent(node, 'release', '--yes', '--output', 'json');
    const { error } = JSON.parse(refused.stderr);
    assert.deepEqual(
      [refused.exitCode, error.code, error.message, error.remedy],
      [
        4,
        'ERR_STORE_PODS',
        'shop/web: these pods depend on the store image, and CRI-O cannot be asked to end them: crictl cannot be started: it is not installed',
        'Drain the node first, then end the pods (crictl rmp --force --all), and run prestage-agent release again',
      ],
    );
    assert.deepEqual([await node.etcHash(), await node.output('findmnt', [STORE])], before);
    assert.equal((await listed(node)).length, 2);
    const dry = await agent(node, 'release', '--dry-run');
    assert.deepEqual([dry.exitCode, /^not now: ERR_STORE_PODS: shop\/web: /m.test(dry.stdout)], [4, true]);
  });

  it('are ended by crictl first of all, where CRI-O answers: by a release, and by a healing', async () => {
    await using node = await open();
    await node.output('sh', ['-c', 'mkdir /run/bin && cat > /run/bin/crictl && chmod 755 /run/bin/crictl'], { input: CRICTL });
    await startCrioStandIn(node);
    await pod(node);
    const done = await agent(node, 'release', '--yes');
    assert.equal(done.exitCode, 0, done.stdout + done.stderr);
    assert.equal(done.stdout.split('\n')[0], `  done    end pod shop/web (crictl rmp --force ${POD_ID})`);
    const flags = '--runtime-endpoint unix:///var/run/crio/crio.sock --timeout 120s';
    const calls = async () => (await node.output('cat', ['/run/crictl-calls'])).trim().split('\n');
    assert.deepEqual(await calls(), [`${flags} version (mounted)`, `${flags} rmp --force ${POD_ID} (mounted)`]);
    await worksAgain(node);
    await node.output('podman', ['rmi', '--all', '--force']);
    await node.bringStore();
    await pod(node);
    await node.loseStore();
    const env = `{ ...process.env, PATH: '/run/bin:' + process.env.PATH }`;
    await node.evaluate(MODULES, `(process.env = ${env}, await healDangling(host, { location, stores: [STORE], act }))`);
    assert.deepEqual((await calls()).slice(2), [`${flags} version (gone)`, `${flags} rmp --force ${POD_ID} (gone)`]);
    await worksAgain(node);
  });
});
