import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import type { StatusReport } from '../../../agent/status/assess.ts';
import { waitFor } from '../../support/agent.ts';
import { END_REGISTRY, startForeignRegistry } from '../../support/foreign-registry.ts';
import { type DataDisk, type MountNode, makeDataDisk, mountNodesUnavailable, openMountNode } from '../../support/mount-node.ts';
import { makeRegistryFixture, type RegistryFixture } from '../../support/registry-node.ts';

const unavailable = await mountNodesUnavailable();
const NOBODY = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
const DROP_INS = { store: '/etc/crio/crio.conf.d/50-prestage.conf', mirrors: '/etc/containers/registries.conf.d/50-prestage.conf' };
const MOUNT = ['--stage', 'installed', '--delivery', 'mount'];
const REGISTRY = ['--stage', 'installed', '--delivery', 'registry'];
const AGAIN = 'prestage-agent run --stage installed';
const BY_USER = 'this user may not read it';
const CRIO = { files: { '/etc/crio/crio.conf': '[crio]\n' } };

describe('status of what is on a node now', () => {
  let fixture: RegistryFixture;
  let data: DataDisk;
  before(async () => {
    if (unavailable !== undefined) return;
    fixture = await makeRegistryFixture();
    data = await makeDataDisk({ ...fixture, bundle: await fixture.bundleOf(['store', 'registry']) });
  });
  after(async () => {
    await data?.[Symbol.asyncDispose]();
    await fixture?.[Symbol.asyncDispose]();
  });
  const whereNodes = (what: string, act: () => Promise<void>): void => {
    it(what, async (t) => (unavailable === undefined ? await act() : t.skip(unavailable)));
  };

  const statusOf = async (node: MountNode, asUser: 'root' | 'nobody'): Promise<StatusReport['status']> => {
    const command = [fixture.executable, 'status', '--output', 'json'];
    const argv = asUser === 'root' ? command : ['setpriv', ...NOBODY, ...command];
    const ended = await node.exec('env', ['HOME=/nonexistent', ...argv]);
    const { status }: StatusReport = JSON.parse(ended.stdout);
    assert.equal(ended.exitCode, status.exitCode, ended.stderr);
    return status;
  };
  const verdictOf = async (node: MountNode, asUser: 'root' | 'nobody' = 'root') => {
    const { readiness, reason, nextStep, exitCode } = await statusOf(node, asUser);
    return { readiness, reason, nextStep, exitCode };
  };
  const assertReady = async (node: MountNode): Promise<void> => {
    assert.deepEqual(await verdictOf(node), {
      readiness: 'ready',
      reason: 'all 4 images are in storage',
      nextStep: 'Nothing to do',
      exitCode: 0,
    });
  };
  const runOn = async (node: MountNode, args: readonly string[], disk = data): Promise<void> => {
    const { exitCode, stderr } = await node.run([...args, '--label', disk.label]);
    assert.equal(exitCode, 0, stderr);
  };

  whereNodes('of a mounted store says to a user without rights what could not be looked at, and is not ready for them', async () => {
    await using node = await openMountNode(fixture, CRIO);
    await runOn(node, MOUNT);
    await assertReady(node);
    const found = await statusOf(node, 'nobody');
    assert.deepEqual(
      [found.readiness, found.exitCode, found.nextStep, found.storageChecked, found.unseen],
      [
        'unknown',
        12,
        'Run it as root: sudo prestage-agent status',
        false,
        [
          { what: 'containers-storage', reason: BY_USER },
          { what: 'the content of the store image', reason: BY_USER },
          {
            what: 'the registry at 127.0.0.1:305',
            reason: 'root listens on port 305, but only root can see with which program',
          },
        ],
      ],
    );
  });

  whereNodes('check-store says nothing about a store to a user who may not read it', async () => {
    await using node = await openMountNode(fixture);
    const { exitCode, stdout, stderr } = await node.exec('setpriv', [...NOBODY, fixture.executable, 'check-store']);
    const lines = [
      'error: check-store takes root: it reads the mounted store image',
      '  ERR_ROOT; next: Give it again with sudo: sudo prestage-agent check-store …',
    ];
    assert.deepEqual([exitCode, stdout, stderr.split('\n')], [2, '', lines]);
  });

  whereNodes('after a boot in which nothing was mounted is not ready for anybody, whatever the run before it left', async () => {
    const disk = await mkdtemp('/tmp/node-disk-');
    try {
      {
        await using node = await openMountNode(fixture, { ...CRIO, disk });
        await runOn(node, MOUNT);
        await assertReady(node);
      }
      await using node = await openMountNode(fixture, { ...CRIO, disk });
      for (const user of ['root', 'nobody'] as const) {
        const { readiness, exitCode, reason } = await verdictOf(node, user);
        assert.deepEqual([user, readiness, exitCode], [user, 'failed', 4]);
        assert.match(
          reason,
          /^0 of 4 images are usable; first: \S+: the store image \S+ is not mounted: the machine was rebooted after the run$/,
        );
      }
    } finally {
      await rm(disk, { recursive: true, force: true });
    }
  });

  whereNodes(
    'of a node that serves all has no fault for a user without rights, until its registry is gone or another program answers',
    async () => {
      await using node = await openMountNode(fixture);
      await runOn(node, [...REGISTRY, '--registry-port', '5055']);
      const ready = { readiness: 'ready', reason: 'all 4 images are served', nextStep: 'Nothing to do', exitCode: 0 };
      assert.deepEqual(await verdictOf(node), ready);
      const found = await statusOf(node, 'nobody');
      const reason = 'root listens on port 5055, but only root can see with which program';
      assert.deepEqual(
        [found.readiness, found.exitCode, found.counts.served, found.unseen],
        ['unknown', 12, 4, [{ what: 'the registry at 127.0.0.1:5055', reason }]],
      );
      const assertFailed = async (why: RegExp): Promise<void> => {
        for (const user of ['root', 'nobody'] as const) {
          const { readiness, exitCode, reason: said } = await verdictOf(node, user);
          assert.deepEqual([user, readiness, exitCode], [user, 'failed', 4]);
          assert.match(said, /^0 of 4 images are usable; first: \S+: the registry that serves it does not answer: /);
          assert.match(said, why);
        }
      };
      await node.output('sh', ['-c', END_REGISTRY]);
      await assertFailed(/ECONNREFUSED/);
      await using _foreign = await startForeignRegistry(node, { port: 5055, uid: 65_534 });
      await assertFailed(/another program listens there: .* of the user with the id 65534$/);
    },
  );

  whereNodes('sees a drop-in that somebody removed or changed, and the next run puts it back', async () => {
    await using node = await openMountNode(fixture, CRIO);
    await runOn(node, MOUNT);
    for (const [about, path] of Object.entries(DROP_INS)) {
      const purpose = about === 'store' ? 'which points engines to the store' : 'which points engines to the mirrors';
      const degraded = (what: string) => ({
        readiness: 'degraded',
        reason: `${path}, ${purpose}, ${what}`,
        nextStep: `Write it again: ${AGAIN}`,
        exitCode: 3,
      });
      const text = await readFile(node.path(path), 'utf8');
      await writeFile(node.path(path), `${text}# changed\n`);
      assert.deepEqual(await verdictOf(node), degraded('was changed after the agent wrote it'));
      await rm(node.path(path));
      assert.deepEqual(await verdictOf(node), degraded('is missing'));
      assert.match((await verdictOf(node, 'nobody')).reason, / is missing$/);
      await runOn(node, MOUNT);
      await assertReady(node);
    }
  });

  whereNodes('asks for every mirror of ours, also where the run started no registry', async () => {
    await using node = await openMountNode(fixture);
    await runOn(node, ['--stage', 'installed', '--delivery', 'extract', '--bundle', `${fixture.bundle}`]);
    await assertReady(node);
    await node.output('mkdir', ['-p', '/etc/containers/registries.conf.d']);
    const mirror =
      '[[registry]]\nprefix = "quay.io/example/tool"\nlocation = "quay.io/example/tool"\n[[registry.mirror]]\nlocation = "127.0.0.1:855/quay.io/example/tool"\n';
    await writeFile(node.path(DROP_INS.mirrors), mirror);
    assert.deepEqual(await verdictOf(node), {
      readiness: 'degraded',
      reason: '127.0.0.1:855, a mirror of ours in registries.conf, does not answer: GET /v2/ fails: connect ECONNREFUSED 127.0.0.1:855',
      nextStep: `Start it again: ${AGAIN}`,
      exitCode: 3,
    });
  });

  whereNodes('of a CRI-O that runs since before its drop-in is degraded until it is restarted, over any number of runs', async () => {
    await using node = await openMountNode(fixture, CRIO);
    // A process of that name is all that can be had of CRI-O here.
    await node.output('cp', ['/bin/sleep', '/run/crio']);
    const startCrio = async (): Promise<void> => {
      node.start('/run/crio', ['600']);
      await waitFor('crio', async () => (await node.exec('pgrep', ['--exact', 'crio'])).exitCode === 0 || undefined);
    };
    await startCrio();
    for (let runs = 0; runs < 2; runs++) {
      assert.equal((await node.run([...MOUNT, '--label', data.label])).exitCode, 3);
      for (const user of ['root', 'nobody'] as const) {
        const { readiness, exitCode, nextStep } = await verdictOf(node, user);
        assert.deepEqual(
          [user, readiness, exitCode, nextStep],
          [user, 'degraded', 3, `Restart CRI-O, then start the run again: systemctl restart crio; ${AGAIN}`],
        );
      }
    }
    await node.output('sh', ['-c', 'kill $(pgrep --exact crio)']);
    await waitFor('its end', async () => (await node.exec('pgrep', ['--exact', 'crio'])).exitCode === 1 || undefined);
    await startCrio();
    assert.deepEqual(await verdictOf(node), {
      readiness: 'degraded',
      reason: 'CRI-O was restarted and now knows the store, but the mirror for the store is not set up yet',
      nextStep: `Start the run again: ${AGAIN}`,
      exitCode: 3,
    });
    await runOn(node, MOUNT);
    await assertReady(node);
  });

  whereNodes('sees that the disk of a mounted store is dead, though the kernel has its records in memory', async () => {
    const disk = await makeDataDisk({ ...fixture, bundle: await fixture.bundleOf(['store', 'registry']) });
    await using stack = new AsyncDisposableStack();
    stack.use(disk);
    const node = stack.use(await openMountNode(fixture, CRIO));
    await runOn(node, MOUNT, disk);
    await assertReady(node);
    const backing = await node.output('losetup', ['--noheadings', '--output', 'BACK-FILE', disk.device]);
    await truncate(backing.trim(), 0);
    await node.output('cat', ['/var/lib/prestage-agent/store/overlay-images/images.json']);
    const { readiness, reason, exitCode } = await verdictOf(node);
    assert.deepEqual([readiness, exitCode], ['failed', 4]);
    assert.match(
      reason,
      /^0 of 4 images are usable; first: \S+: the store image \S+ cannot be read: \S+: error reading '\S+': Input\/output error$/,
    );
  });
});
