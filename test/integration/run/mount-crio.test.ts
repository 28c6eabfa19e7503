import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { describe } from 'node:test';
import { DROP_IN_PATH } from '../../../agent/engine/registries-drop-in.ts';
import { STORAGE_CONF } from '../../../agent/model/places.ts';
import { waitFor } from '../../support/agent.ts';
import type { MountNode } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';

const CRIO_DROP_IN = '/etc/crio/crio.conf.d/50-prestage.conf';
const UNAWARE = {
  code: 'ERR_CRIO_STORE',
  message: 'CRI-O was started before the store was configured, and does not see its images: the mirror of the store is not used',
  remedy: 'Restart CRI-O, then start the run again: systemctl restart crio; prestage-agent run --stage installed',
};

describe('a store image on a node on which CRI-O runs already', () => {
  const suite = mountSuite({ partitionMiB: 0, node: { files: { '/etc/crio/crio.conf.d/00-default': '[crio]\n' } } });
  const run = async (node: MountNode) => await node.run(['--stage', 'installed', '--bundle', suite.fixture.bundle]);
  const isThere = async (node: MountNode, path: string) => (await node.exec('test', ['-e', path])).exitCode === 0;
  const pids = async (node: MountNode) => (await node.exec('pgrep', ['--exact', 'crio'])).stdout;

  /** A process of the name of CRI-O is all that can be had of it here; it reads its configuration when it starts, as every process of that name is taken to. */
  const startCrio = async (node: MountNode): Promise<void> => {
    await node.output('cp', ['/bin/sleep', '/run/crio']);
    node.start('/run/crio', ['600']).stdout?.resume();
    await waitFor('crio', async () => (await pids(node)) !== '' || undefined);
  };
  const stopCrio = async (node: MountNode): Promise<void> => {
    await node.output('sh', ['-c', 'kill $(pgrep --exact crio)']);
    await waitFor('the end of crio', async () => (await pids(node)) === '' || undefined);
  };
  const assertDegraded = async (node: MountNode): Promise<void> => {
    const { exitCode, state, stderr } = await run(node);
    assert.deepEqual([exitCode, state.outcome, state.error], [3, 'complete', UNAWARE], stderr);
    assert.deepEqual([await isThere(node, CRIO_DROP_IN), await isThere(node, DROP_IN_PATH)], [true, false]);
    const { readiness, exitCode: code } = await node.status();
    assert.deepEqual([readiness, code], ['degraded', 3]);
  };

  suite.onNode('keeps its mirror back, run after run, until CRI-O was restarted', async (node) => {
    await startCrio(node);
    await assertDegraded(node);
    await assertDegraded(node);
    assert.deepEqual(
      await node.readOnlyImages({ CONTAINERS_STORAGE_CONF: STORAGE_CONF }),
      suite.fixture.all.map(({ reference }) => reference).toSorted(),
      'podman has the images meanwhile',
    );
    await stopCrio(node);
    await startCrio(node);
    const { exitCode, state, stderr } = await run(node);
    assert.deepEqual([exitCode, state.outcome, state.error], [0, 'complete', undefined], stderr);
    assert.equal(await isThere(node, DROP_IN_PATH), true);
    assert.equal((await node.status()).readiness, 'ready');
  });

  suite.onNode('takes away the mirrors that an earlier run has set', async (node) => {
    assert.equal((await run(node)).exitCode, 0);
    assert.equal(await isThere(node, DROP_IN_PATH), true);
    await rm(node.path(CRIO_DROP_IN));
    await startCrio(node);
    await assertDegraded(node);
  });
});
