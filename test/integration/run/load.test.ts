import assert from 'node:assert/strict';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { makeSandbox, type Sandbox, statesOf } from '../../support/agent.ts';
import { type ImageSet, MAPPED_TAG, smallImageSet } from '../../support/image-set.ts';
import { assertLoaded, assertNothingLeft, recordedDigests, treeOf } from '../../support/loaded.ts';
import { inContainer } from '../../support/storage.ts';

const COUNTED = 'echo "$*" >>"$LOG"; exec "$REAL" "$@"';

describe('the images of a discovery stage, loaded once', () => {
  let set: ImageSet;
  let sandbox: Sandbox;
  let args: readonly string[];
  let dryTrees: readonly [string, string];
  before(async () => {
    set = await smallImageSet();
    sandbox = await makeSandbox();
    args = ['--bundle', set.archives];
    await sandbox.wrap('skopeo', COUNTED);
    const trees = async () => `${await treeOf(sandbox.root)}${await treeOf(set.archives)}`;
    const untouched = await trees();
    await sandbox.agent(['run', '--stage', 'discovery', ...args, '--dry-run']);
    dryTrees = [untouched, await trees()];
    const { exitCode, state } = await sandbox.run(args);
    assert.deepEqual([exitCode, statesOf(state)], [0, set.discovery.map(({ reference }) => [reference, 'loaded'])]);
  });
  after(async () => await sandbox[Symbol.asyncDispose]());

  const inside = async (reference: string, command: readonly string[]) => {
    const roots = ['--root', sandbox.graphroot, '--runroot', sandbox.runroot, '--storage-driver', 'overlay'];
    return await output(execOnLinux, ...inContainer(roots, reference, command));
  };

  it('were planned before without anything being written', () => assert.equal(dryTrees[1], dryTrees[0]));

  it('resolve by tag, by digest, by the digest of a list, and by the tag of mapping.txt', async () => {
    const { zstd } = set.images;
    const mapped = `${zstd.reference.split('@')[0]}:${MAPPED_TAG}`;
    await assertLoaded(
      sandbox,
      set.discovery.map((image) => (image === zstd ? { ...image, names: [image.reference, mapped] } : image)),
    );
    const names = [...(await recordedDigests(sandbox.graphroot)).keys()];
    assert.deepEqual(names.toSorted(), [...set.discovery.map(({ reference }) => reference), mapped].toSorted());
  });

  it('run, and hold what their own layer brought', async () => {
    assert.equal(await inside(set.images.release.reference, ['cat', '/etc/prestage-image']), 'release');
    assert.equal(await inside(set.images.otherArchitecture.reference, ['cat', '/etc/prestage-image']), 'other-architecture');
  });

  it('keep whiteouts, opaque directories, hard links, owners, modes, capabilities and user attributes', async () => {
    const { whiteouts, links } = set.images;
    const left = await inside(whiteouts.reference, ['sh', '-c', 'ls -d /etc/removed-later /srv/gone 2>/dev/null; ls /etc/conf.d']);
    assert.equal(left, '20-own.conf');
    const inodes = await inside(links.reference, ['stat', '-c', '%h %u %a %N', '/opt/hard', '/opt/soft', '/opt/setuid']);
    assert.equal(inodes, "2 0 644 '/opt/hard'\n1 0 777 '/opt/soft' -> 'original'\n1 1000 4755 '/opt/setuid'");
    const mounted = (await sandbox.podman('image', 'mount', links.reference)).stdout.trim();
    assert.match(await output(execOnLinux, 'getcap', [join(mounted, 'opt/capable')]), /cap_net_bind_service[=+]ep$/);
    const python = 'import os,sys; print(os.getxattr(sys.argv[1], "user.prestage").decode())';
    assert.equal(await output(execOnLinux, 'python3', ['-c', python, join(mounted, 'opt/original')]), 'kept');
    await sandbox.podman('image', 'unmount', links.reference);
  });

  it('are left alone by the next run, which starts no skopeo', async () => {
    const started = (await sandbox.log()).length;
    const { exitCode, state } = await sandbox.run(args);
    assert.deepEqual([exitCode, statesOf(state)], [0, set.discovery.map(({ reference }) => [reference, 'present'])]);
    assert.equal((await sandbox.log()).length, started);
  });

  it('are copied by skopeo with their digests kept', async () => {
    const calls = await sandbox.log();
    assert.equal(calls.length, set.discovery.length + 1);
    for (const call of calls)
      assert.match(call, /^--insecure-policy --tmpdir \S+ copy --quiet --preserve-digests dir:\S+ containers-storage:\[overlay@\S+\]\S+$/);
  });

  it('come back alone where one of them was removed', async () => {
    const { release } = set.images;
    await sandbox.podman('rmi', release.reference);
    const { exitCode, state } = await sandbox.run(args);
    const expected = set.discovery.map(({ reference }) => [reference, reference === release.reference ? 'loaded' : 'present']);
    assert.deepEqual([exitCode, statesOf(state)], [0, expected]);
    await assertLoaded(sandbox, set.discovery);
  });

  for (const [what, file] of [
    ['link', (graphroot: string) => join(graphroot, 'overlay')],
    ['manifest', (graphroot: string) => join(graphroot, 'overlay-images')],
  ] as const) {
    it(`are reported and replaced where a ${what} file is cut to nothing, as a power cut leaves it`, async () => {
      const files = (await output(execOnLinux, 'find', [file(sandbox.graphroot), '-name', what, '-type', 'f']))
        .trim()
        .split('\n')
        .toSorted();
      const path = files[0] ?? '';
      await writeFile(path, '');
      const status = JSON.parse((await sandbox.agent(['status', '--output', 'json'])).stdout);
      assert.equal(status.status.readiness === 'ready', false);
      const { exitCode, state, stderr } = await sandbox.run(args);
      assert.equal(exitCode, 0, JSON.stringify(state.images.map(({ error }) => error)));
      const reasons = state.images.filter(({ state: was }) => was === 'loaded').map(({ reason }) => reason ?? '');
      assert.ok(
        reasons.length > 0 && reasons.every((reason) => reason.startsWith('damaged: ') && reason.includes(path)),
        reasons.join('\n'),
      );
      assert.match(stderr, /is damaged and is loaded again: /);
      assert.ok((await readFile(path, 'utf8').catch(() => 'replaced by another')) !== '');
      await assertLoaded(sandbox, set.discovery);
      assert.equal(
        (await sandbox.run(args)).state.images.every(({ state: was }) => was === 'present'),
        true,
      );
    });
  }

  it('come back all where the whole storage was removed', async () => {
    await execOnLinux('umount', [join(sandbox.graphroot, 'overlay')]);
    await rm(sandbox.graphroot, { recursive: true });
    await rm(sandbox.runroot, { recursive: true });
    const status = JSON.parse((await sandbox.agent(['status', '--output', 'json'])).stdout);
    assert.deepEqual([status.status.readiness, status.status.counts.missing], ['failed', set.discovery.length]);
    const { exitCode, state } = await sandbox.run(args);
    assert.deepEqual([exitCode, statesOf(state)], [0, set.discovery.map(({ reference }) => [reference, 'loaded'])]);
    await assertLoaded(sandbox, set.discovery);
    await assertNothingLeft(sandbox);
  });

  it('go into another storage where flags name one, and leave the first as it is', async () => {
    const other = { graphroot: join(sandbox.work, 'other/graph'), runroot: join(sandbox.work, 'other/run') };
    await mkdir(join(sandbox.work, 'other'));
    const records = await readFile(join(sandbox.graphroot, 'overlay-images/images.json'), 'utf8');
    const { exitCode, state } = await sandbox.run([...args, '--graphroot', other.graphroot, '--runroot', other.runroot]);
    assert.deepEqual([exitCode, state.outcome, state.storage], [0, 'complete', other]);
    assert.deepEqual((await recordedDigests(other.graphroot)).size, set.discovery.length + 1);
    assert.equal(await readFile(join(sandbox.graphroot, 'overlay-images/images.json'), 'utf8'), records);
  });
});

it('images are loaded on a machine whose policy rejects every image, as each was held against its digest', async () => {
  await using sandbox = await makeSandbox();
  const set = await smallImageSet();
  const home = join(sandbox.work, 'home');
  await mkdir(join(home, '.config/containers'), { recursive: true });
  await writeFile(join(home, '.config/containers/policy.json'), '{"default":[{"type":"reject"}]}');
  const { exitCode, state } = await sandbox.run(['--bundle', set.archives], { HOME: home });
  assert.deepEqual([exitCode, statesOf(state)], [0, set.discovery.map(({ reference }) => [reference, 'loaded'])]);
});
