import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { execOnLinux } from '../../../agent/host/exec.ts';
import type { MadeImage } from '../../support/images.ts';
import { makeStoreFixture, openStoreNode, STORE, type StoreFixture, type StoreNode } from '../../support/store-node.ts';

const PLAIN_CONF = `# of this site
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
`;

describe('prestage-agent release on a node with an open store', () => {
  let work: string;
  let fixture: StoreFixture;
  let stored: MadeImage;
  let onTop: MadeImage;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'release-'));
    fixture = await makeStoreFixture(work, ({ images }) => [images.release, images.oci]);
    ({ oci: stored, whiteouts: onTop } = fixture.set.images);
  });
  after(async () => await rm(work, { recursive: true, force: true }));

  /** A node that the agent has set up for the stage of discovery. */
  const open = async (): Promise<StoreNode & { readonly plainEtc: string }> => {
    const node = await openStoreNode(fixture, { '/etc/containers/storage.conf': PLAIN_CONF });
    // podman makes /etc/cni by itself.
    await node.images();
    const plainEtc = await node.etcHash();
    await node.evaluate(['engine/set-up.ts'], 'await setUpEngines(host, { stage: "discovery", act })');
    assert.notEqual(await node.etcHash(), plainEtc);
    assert.ok((await node.images()).includes(stored.reference));
    return { ...node, plainEtc };
  };
  const mounts = async (node: StoreNode) =>
    (await node.exec('findmnt', ['--noheadings', '--output', 'TARGET', '--list'])).stdout
      .split('\n')
      .filter((target) => target.includes('prestage-agent/'));
  const ours = async (node: StoreNode) => (await readdir(node.path('/var/lib/prestage-agent'))).toSorted();

  it('lists what it would undo and changes nothing with --dry-run', async () => {
    await using node = await open();
    await node.pull(onTop);
    const [etc, images] = [await node.etcHash(), await node.images()];
    const { exitCode, stdout } = await node.agent('release', '--dry-run');
    assert.deepEqual(
      [exitCode, stdout],
      [
        0,
        `to undo:
  remove what depends on the store image: image ${onTop.reference}
  unmount the store at ${STORE}
  restore /etc/containers/storage.conf as it was
  forget which system files were changed
  remove the empty store ${STORE}
nothing was changed`,
      ],
    );
    assert.deepEqual([await node.etcHash(), await node.images()], [etc, images]);
    const { steps } = JSON.parse((await node.agent('release', '--dry-run', '--output', 'json')).stdout);
    assert.deepEqual(
      steps.map(({ group }: { group: string }) => group),
      ['dangling', 'store', 'engines', 'engines', 'copies'],
    );
  });

  it('asks, and does nothing where nobody can be asked', async () => {
    await using node = await open();
    const etc = await node.etcHash();
    const { exitCode, stderr } = await node.agent('release');
    assert.equal(exitCode, 2);
    assert.match(
      stderr,
      /error: there is no terminal on which to ask for confirmation; nothing was changed\n {2}ERR_NOT_CONFIRMED; next: Give --yes$/,
    );
    assert.equal(await node.etcHash(), etc);
  });

  it('leaves /etc as it was, no mount, and a podman that works with what is its own; a second one finds nothing', async () => {
    await using node = await open();
    await node.output('sh', ['-c', 'mkdir /run/sound && tar c -C /run/sound . | podman import - localhost/sound:1']);
    await node.pull(onTop);
    const { exitCode, stdout, stderr } = await node.agent('release', '--yes');
    assert.equal(exitCode, 0, stderr);
    assert.match(stdout, /\nreleased$/);
    assert.deepEqual([await node.etcHash(), await mounts(node), await ours(node)], [node.plainEtc, [], []]);
    assert.deepEqual(await node.images(), ['localhost/sound:1']);
    assert.deepEqual(await node.agent('release', '--yes'), { exitCode: 0, stdout: 'nothing to undo', stderr: '' });
  });

  it('with --keep-images lets containers go on, and takes the empty store once the last of them has ended', async () => {
    await using node = await open();
    await node.startContainer(stored.reference, 'web');
    const refused = await node.agent('release', '--dry-run');
    assert.match(refused.stdout, /remove what depends on the store image: container web, which is running\n/);
    assert.match(refused.stdout, /\nnotice: web runs from .*: give --keep-images so that it keeps running and can be restarted\n/);
    const { exitCode, stdout } = await node.agent('release', '--keep-images', '--yes');
    assert.equal(exitCode, 0, stdout);
    assert.match(stdout, /done {4}copy .*, which web uses, into \/var\/lib\/containers\/storage\n/);
    assert.match(stdout, /left {4}remove the empty store .*\n +the monitor of a container \(process \d+\) would fail without it\n/);
    assert.deepEqual([await node.etcHash(), await mounts(node), await ours(node)], [node.plainEtc, [], ['store']]);
    assert.equal(await node.output('podman', ['exec', 'web', 'cat', '/etc/prestage-image']), 'oci');
    await node.output('podman', ['restart', '--time', '2', 'web']);
    assert.equal(await node.output('podman', ['exec', 'web', 'cat', '/etc/prestage-image']), 'oci');
    assert.equal((await node.agent('release', '--yes')).exitCode, 0);
    assert.deepEqual([await node.images(), await ours(node)], [[stored.reference], []]);
  });

  it('that cannot close the store says so, leaves it open with engines that know it, and goes on the next time', async () => {
    await using node = await open();
    const [etc, images] = [await node.etcHash(), await node.images()];
    const user = node.start('sh', ['-c', `cd ${STORE} && exec sleep 60`]);
    await node.output('sh', ['-c', `until fuser -m ${STORE} >/dev/null 2>&1; do sleep 0.05; done`]);
    const { exitCode, stdout } = await node.agent('release', '--yes');
    assert.equal(exitCode, 4);
    assert.match(stdout, /failed {2}unmount the store at .*\n +ERR_STORE_BUSY: /);
    assert.match(stdout, /skipped restore \/etc\/containers\/storage\.conf as it was\n +this must be done first: unmount the store at /);
    assert.match(stdout, /\nnot everything was undone; remove the cause, then run the command again$/);
    assert.deepEqual([await node.etcHash(), await mounts(node), await node.images()], [etc, [STORE], images]);
    await node.output('sh', ['-c', `fuser -k -m ${STORE} >/dev/null 2>&1; while fuser -m ${STORE} >/dev/null 2>&1; do sleep 0.05; done`]);
    user.kill();
    assert.equal((await node.agent('release', '--yes')).exitCode, 0);
    assert.deepEqual([await mounts(node), await ours(node)], [[], []]);
  });

  it('keeps the empty store where a storage.conf of somebody else names it', async () => {
    await using node = await openStoreNode(fixture);
    const { exitCode, stdout } = await node.agent('release', '--yes');
    assert.equal(exitCode, 0);
    assert.match(
      stdout,
      new RegExp(`\nnotice: the empty store ${STORE} is kept: /etc/containers/storage.conf would fail without it\nreleased$`),
    );
    assert.deepEqual([await mounts(node), await ours(node), await node.images()], [[], ['store'], []]);
    assert.match((await node.agent('release', '--yes')).stdout, /^nothing to undo\nnotice: the empty store /);
  });

  it('does nothing while another instance is at work', async () => {
    await using node = await open();
    await node.output('mkdir', ['-p', '/run/prestage-agent']);
    const script = 'exec 9>>/run/prestage-agent/lock; flock 9; "$@"; echo "$?"';
    const held = await node.exec('sh', [
      '-c',
      script,
      'sh',
      process.execPath,
      join(import.meta.dirname, '../../../agent/main.ts'),
      'release',
      '--yes',
    ]);
    assert.deepEqual([held.stdout, await mounts(node)], ['8', [STORE]]);
  });

  it('leaves no loop device behind', async () => {
    const { stdout } = await execOnLinux('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE']);
    assert.deepEqual(
      stdout.split('\n').filter((file) => file.includes(work)),
      [],
    );
  });
});
