import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import type { ActName } from '../../../agent/host/acts.ts';
import { inLane, sidesOf } from '../../support/crash/sides.ts';
import { type MountNode, mountNodesUnavailable, openMountNode } from '../../support/mount-node.ts';
import { etcOf, makeRegistryFixture, type RegistryFixture } from '../../support/registry-node.ts';

const unavailable = await mountNodesUnavailable();

/** Steps by which a run that extracts undoes what runs before it have set up. */
const AFTER_REGISTRY: readonly ActName[] = [
  'remove-system-file',
  'record-setup',
  'reload-crio',
  'stop-registry',
  'remove-registry',
  'unmount-data',
  'remove-mirror',
  'remove-copies',
];
const AFTER_MOUNT: readonly ActName[] = [
  'remove-system-file',
  'record-setup',
  'unmount-store',
  'forget-store',
  'unmount-ram',
  'leave-storage-conf',
  'remove-mirror',
  'remove-empty-store',
];

describe('a run that extracts what another run has delivered otherwise', () => {
  let fixture: RegistryFixture;
  before(async () => {
    if (unavailable === undefined) fixture = await makeRegistryFixture();
  });
  after(async () => await fixture?.[Symbol.asyncDispose]());
  const ways = [
    { what: 'served', payloads: ['registry', 'oci'], first: ['--delivery', 'registry', '--block-source', 'yes'], steps: AFTER_REGISTRY },
    { what: 'mounted', payloads: ['store', 'oci'], first: ['--placement', 'ram', '--block-source', 'yes'], steps: AFTER_MOUNT },
  ] as const;

  for (const { what, payloads, first, steps } of ways) {
    const run = async (node: MountNode, ...more: readonly string[]) =>
      await node.run(['--stage', 'installed', '--bundle', await fixture.bundleOf(payloads), ...more]);
    for (const act of inLane(steps, 3, what)) {
      it(`leaves nothing of what was ${what}, also if it is killed before and after ${act}`, async (t) => {
        if (unavailable !== undefined) return t.skip(unavailable);
        await using node = await openMountNode(fixture);
        await node.podman('images');
        const etc = await etcOf(node);
        const set = await run(node, ...first);
        assert.equal(set.exitCode, 0, set.stderr);
        const extract = ['run', '--stage', 'installed', '--bundle', await fixture.bundleOf(payloads), '--delivery', 'extract'];
        for (const when of sidesOf(act)) {
          const killed = await node.agent(extract, { env: { PRESTAGE_CRASH_AT: `${when}:${act}` } });
          assert.equal(killed.exitCode, 128 + 9, `it was not killed ${when} ${act}: ${killed.stderr}`);
          assert.equal((await node.podman('images', '--quiet')).exitCode, 0);
        }
        const { exitCode, state, stderr } = await run(node, '--delivery', 'extract');
        assert.deepEqual(
          [exitCode, state.outcome, state.error, state.registry, state.store],
          [0, 'complete', undefined, undefined, undefined],
          stderr,
        );
        assert.deepEqual([await node.ourMounts(), await etcOf(node)], [[], etc]);
        const places = ['/run/prestage-agent/registry', '/run/prestage-agent/mirror', '/var/lib/prestage-agent/registry-image'];
        assert.deepEqual(
          places.filter((path) => existsSync(node.path(path))),
          [],
        );
        for (const { reference } of fixture.all) assert.equal((await node.podman('image', 'exists', reference)).exitCode, 0);
        assert.equal((await node.status()).readiness, 'ready');
      });
    }
  }
});
