import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { type ActName, changingActs } from '../../../agent/host/acts.ts';
import { STORAGE_CONF } from '../../../agent/model/places.ts';
import { counted, figuresOf, keepCrashFigures } from '../../support/crash/points.ts';
import { inLane, sidesOf } from '../../support/crash/sides.ts';
import { buildBundle, holdersOf, type MountNode, openMountNode, STORE_IMAGE } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';
import { flipByte } from '../../support/store-bundle.ts';

const env = { CONTAINERS_STORAGE_CONF: STORAGE_CONF };

/** A run that passes steps which others do not, and how it ends. */
interface Passage {
  readonly what: string;
  /** What the node has been through before. */
  readonly first?: readonly string[];
  readonly args: (bundles: Bundles) => readonly string[];
  readonly end: { readonly exitCode: number; readonly images: 'all' | 'less' | 'none'; readonly mounts: readonly string[] };
  /** With `:N` for the Nth time. */
  readonly steps: readonly (ActName | `${ActName}:${number}`)[];
}

interface Bundles {
  readonly label: string;
  readonly whole: string;
  readonly less: string;
  readonly damaged: string;
}

const STORE = '/var/lib/prestage-agent/store';
const DATA = '/run/prestage-agent/data';

const PASSAGES: readonly Passage[] = [
  {
    what: 'discovery',
    args: ({ label }) => ['--stage', 'discovery', '--label', label, '--trust', 'hash'],
    end: { exitCode: 0, images: 'all', mounts: ['/run/prestage-agent/ram', STORE] },
    // biome-ignore format: one line for each part of the run
    steps: [
      'take-lock', 'record-start', 'reclaim-mount', 'mount-partition', 'reclaim-scratch',
      'make-empty-store', 'mount-ram', 'copy-store', 'record-store', 'mount-store', 'copy-mirror',
      'back-up-system-file', 'record-setup', 'record-setup:2', 'write-system-file', 'write-system-file:2', 'reload-crio',
      'write-registry', 'start-registry', 'unmount-partition', 'record-end',
    ],
  },
  {
    what: 'the first boot',
    args: ({ label }) => ['--stage', 'installed', '--label', label, '--trust', 'background'],
    end: { exitCode: 0, images: 'all', mounts: [DATA, STORE] },
    steps: ['bind-data', 'mount-store', 'record-setup:2', 'write-system-file:2', 'start-registry', 'start-check', 'unmount-partition'],
  },
  {
    what: 'a copy to the disk',
    args: ({ label }) => ['--stage', 'installed', '--label', label, '--placement', 'disk', '--trust', 'hash'],
    end: { exitCode: 0, images: 'all', mounts: [STORE] },
    steps: ['copy-store', 'mount-store', 'keep-bundle'],
  },
  {
    what: 'an exchange of the bundle',
    first: ['--placement', 'disk', '--trust', 'hash'],
    args: ({ less }) => ['--stage', 'installed', '--bundle', less, '--trust', 'hash'],
    end: { exitCode: 0, images: 'less', mounts: [DATA, STORE] },
    steps: [
      'stop-registry',
      'remove-registry',
      'unmount-store',
      'forget-store',
      'remove-old-copies',
      'heal-container',
      'heal-image',
      'forget-bundle',
    ],
  },
  {
    what: 'a way from memory to a damaged bundle',
    first: ['--placement', 'ram', '--trust', 'hash'],
    args: ({ damaged }) => ['--stage', 'installed', '--bundle', damaged, '--placement', 'partition', '--trust', 'hash'],
    end: { exitCode: 6, images: 'none', mounts: [] },
    steps: ['unmount-store', 'unmount-ram', 'unmount-data', 'heal-container', 'heal-image'],
  },
];

describe('a run with a store image that is killed', () => {
  const figures = figuresOf('run with a store image');
  let bundles: Bundles;
  const suite = mountSuite({
    prepare: async ({ fixture, disk }) => {
      const [less, damaged] = [join(fixture.work, 'less'), join(fixture.work, 'damaged')];
      await buildBundle({ blobs: fixture.blobs, images: [fixture.images.registry, fixture.images.list], directory: less });
      await cp(fixture.bundle, damaged, { recursive: true });
      await flipByte(join(damaged, STORE_IMAGE), 1);
      bundles = { label: disk.label, whole: fixture.bundle, less, damaged };
    },
  });
  after(async () => await keepCrashFigures(figures));

  for (const passage of PASSAGES) {
    for (const act of inLane(passage.steps, 3, passage.what)) {
      suite.it(`in ${passage.what}, before and after ${act}, comes to the same end, and is taken back whole`, async () => {
        await using node = await openMountNode(suite.fixture);
        await node.podman('images');
        const etc = await node.etcTree();
        if (passage.first !== undefined) await useNode(node, passage.first);
        for (const when of sidesOf(act)) {
          // What the first of the two has done is not done again: then the Nth time is the first.
          const point = `${when}:${when === 'before' ? act : act.replace(/:\d+$/, '')}`;
          const killed = await node.agent(['run', ...passage.args(bundles)], { env: { PRESTAGE_CRASH_AT: point } });
          assert.equal(killed.exitCode, 128 + 9, `it was not killed ${when} ${act}: ${killed.stderr}`);
        }
        await counted(figures, sidesOf(act).length, async () => await assertEnd(node, passage));
        const released = await node.agent(['release', '--yes']);
        assert.equal(released.exitCode, 0, released.stdout + released.stderr);
        assert.deepEqual([await node.etcTree(), await node.ourMounts(), await holdersOf(suite.disk)], [etc, [], []]);
        assert.equal((await node.podman('images', '--quiet')).exitCode, 0);
      });
    }
  }

  it('is tried at every step that a mount delivery passes', () => {
    const tried = new Set(PASSAGES.flatMap(({ steps }) => steps.map((act) => act.replace(/:\d+$/, ''))));
    const passed = [...changingActs.run, ...changingActs.mount, ...changingActs.engines];
    // dm-verity takes a kernel that has it, systemd a machine that it runs.
    assert.deepEqual(
      passed.filter((name) => !tried.has(name)),
      ['open-verity', 'close-verity', 'reload-systemd'],
    );
  });

  /** Mounts the store, then pulls an image and makes a container on top of it. */
  async function useNode(node: MountNode, more: readonly string[]): Promise<void> {
    assert.equal((await node.run(['--stage', 'installed', '--bundle', bundles.whole, ...more])).exitCode, 0);
    await node.output('podman', ['pull', suite.fixture.images.tag.reference], { env });
    const create = ['create', '--name', 'used', '--network=host', '--pull=never', suite.fixture.images.digest.reference, 'sh'];
    await node.output('podman', create, { env });
  }

  async function assertEnd(node: MountNode, { args, end }: Passage): Promise<void> {
    const { exitCode, state, stderr } = await node.run(args(bundles));
    assert.deepEqual([exitCode, state.suspect, state.unsynced], [end.exitCode, [], []], stderr);
    assert.deepEqual(await node.ourMounts(), end.mounts);
    const isDiscovery = state.stage === 'discovery';
    const { list, registry } = suite.fixture.images;
    const expected = { all: suite.fixture.all, less: [list, registry], none: [] }[end.images];
    assert.deepEqual(await node.readOnlyImages(isDiscovery ? undefined : env), expected.map(({ reference }) => reference).toSorted());
    assert.equal(await node.output('podman', ['ps', '--all', '--quiet'], isDiscovery ? {} : { env }), '');
    if (end.images === 'none') return;
    const pulled = await node.exec('podman', ['pull', list.reference], isDiscovery ? {} : { env });
    assert.equal(pulled.exitCode, 0, pulled.stderr);
    assert.equal((await node.status()).readiness, 'ready');
  }
});
