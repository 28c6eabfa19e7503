import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe } from 'node:test';
import { STORAGE_CONF } from '../../../agent/model/places.ts';
import { waitFor } from '../../support/agent.ts';
import type { MountNode } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';

const env = { CONTAINERS_STORAGE_CONF: STORAGE_CONF };

describe('a run with a store image', () => {
  const suite = mountSuite({
    payloads: ['store', 'oci'],
    partitionMiB: 0,
    node: { files: { '/etc/containers/registries.conf': '# As it was.\nunqualified-search-registries = ["docker.io"]\n' } },
  });
  const args = (stage: string, ...more: readonly string[]) => ['--stage', stage, '--bundle', suite.fixture.bundle, ...more];
  const names = () => suite.fixture.all.map(({ reference }) => reference).toSorted();
  /** All that lies on the disk and in /run, what is mounted, and what runs. The registry's log is written some time after its answer. */
  const everything = async (node: MountNode): Promise<readonly string[]> => {
    const places = '/etc /var/lib/containers /var/lib/prestage-agent /run /var/tmp';
    const find = `find ${places} ! -name registry.log -printf "%p %y %m %s %T@ %C@\\n" | sort`;
    return (await node.output('sh', ['-c', `${find}; cat /proc/self/mountinfo; ps --ppid 1 -o args= || true`])).split('\n');
  };

  for (const [stage, lines] of [
    ['discovery', [/^mount .*all\.squashfs \([\d.]+ MiB\) at \/var\/lib\/prestage-agent\/store: ram \(.*\), (?:hash|verity) \(.*\)$/m]],
    [
      'installed',
      [/^mount .*all\.squashfs \([\d.]+ MiB\) at \/var\/lib\/prestage-agent\/store: partition \(.*\), (?:background|verity) \(.*\)$/m],
    ],
  ] as const) {
    suite.onNode(`says beforehand what it would do (${stage}), and changes nothing`, async (node) => {
      const before = await everything(node);
      const planned = await node.agent(['run', ...args(stage), '--dry-run']);
      assert.equal(planned.exitCode, 0, planned.stderr);
      for (const line of [
        ...lines,
        /^make its 4 images visible to the engines$/m,
        /^serve their manifests at 127\.0\.0\.1:305 with quay\.io\/example\/registry:v1, as a mirror of the sources$/m,
        /^nothing was written$/m,
      ])
        assert.match(planned.stdout, line);
      assert.deepEqual(await everything(node), before);
      // Nor on a node that is set up.
      assert.equal((await node.run(args(stage))).exitCode, 0);
      // The check behind the boot writes what it has found.
      await waitFor('the end of the check', async () =>
        (await node.exec('pgrep', ['-f', '[c]heck-store'])).exitCode === 1 ? true : undefined,
      );
      const set = await everything(node);
      assert.equal((await node.agent(['run', ...args(stage), '--dry-run'])).exitCode, 0);
      assert.deepEqual(await everything(node), set);
    });
  }

  for (const [stage, trust, placement, expected] of [
    ['installed', 'hash', 'partition', { trust: 'hash', verified: 'before-mount' }],
    ['installed', 'background', 'partition', { trust: 'background', verified: 'pending' }],
    ['installed', 'hash', 'disk', { trust: 'hash', verified: 'before-mount' }],
    ['installed', 'auto', 'ram', { trust: 'hash', verified: 'before-mount' }],
    ['discovery', 'hash', 'partition', { trust: 'hash', verified: 'before-mount' }],
    ['discovery', 'background', 'ram', { trust: 'background', verified: 'before-mount' }],
  ] as const) {
    suite.onNode(`takes ${trust} for the trust and ${placement} for the place (${stage})`, async (node) => {
      const { exitCode, state, stderr } = await node.run(args(stage, '--trust', trust, '--placement', placement));
      assert.deepEqual(
        [exitCode, state.store?.trust, state.store?.verified, state.store?.placement],
        [0, expected.trust, expected.verified, placement],
        stderr,
      );
      assert.deepEqual(await node.readOnlyImages(stage === 'installed' ? env : undefined), names());
    });
  }

  suite.onNode('moves the store where another run wants it, and hashes it where another run asks for that', async (node) => {
    assert.equal((await node.run(args('installed'))).state.store?.placement, 'partition');
    for (const [placement, trust] of [
      ['disk', 'hash'],
      ['ram', 'hash'],
      ['partition', 'hash'],
    ] as const) {
      const { exitCode, state, stderr } = await node.run(args('installed', '--placement', placement, '--trust', trust));
      assert.deepEqual(
        [exitCode, state.outcome, state.store?.placement, state.store?.verified],
        [0, 'complete', placement, 'before-mount'],
        stderr,
      );
      assert.deepEqual(await node.readOnlyImages(env), names());
      const pulled = await node.exec('podman', ['pull', suite.fixture.images.list.reference], { env });
      assert.equal(pulled.exitCode, 0, pulled.stderr);
    }
    assert.deepEqual(await node.ourMounts(), ['/run/prestage-agent/data', '/var/lib/prestage-agent/store']);
  });

  suite.onNode('refuses verity where the kernel does not have it, and engines work all the same', async (node) => {
    const { exitCode, state } = await node.run(args('installed', '--trust', 'verity', '--delivery', 'mount'));
    assert.notEqual(exitCode, 0);
    assert.match(`${state.error?.code}`, /^ERR_(?:TRUST|STORE_)/);
    assert.deepEqual(await node.ourMounts(), []);
    assert.equal((await node.podman('images')).exitCode, 0);
  });

  suite.onNode('refuses to serve a cluster from no address, and says which setting is missing', async (node) => {
    const { exitCode, state } = await node.run(args('installed', '--serve', 'cluster'));
    assert.deepEqual(
      [exitCode, state.outcome, state.error],
      [
        2,
        'failed',
        {
          code: 'ERR_SETTINGS',
          message: 'the registry must serve the cluster, but serve-address is not set',
          remedy: 'Set serve-address to the IPv4 address or the host name that other nodes use to reach this node',
        },
      ],
    );
    assert.deepEqual(await node.ourMounts(), []);
    assert.equal((await node.podman('images')).exitCode, 0);
  });

  suite.onNode('rewrites registries.conf itself where that is asked for, once, and keeps what is in it', async (node) => {
    assert.equal((await node.run(args('discovery', '--rewrite', 'yes'))).exitCode, 0);
    const path = node.path('/etc/containers/registries.conf');
    const text = await readFile(path, 'utf8');
    assert.match(text, /^# As it was\.\n(?:.*\n)*unqualified-search-registries = \["docker\.io"\]\n/);
    assert.match(text, /location = "127\.0\.0\.1:305\/quay\.io\/example\/tool"/);
    assert.equal((await node.exec('ls', ['/etc/containers/registries.conf.d'])).stdout, '');
    assert.equal((await node.podman('pull', suite.fixture.images.tag.reference)).exitCode, 0);
    assert.equal((await node.run(args('discovery', '--rewrite', 'yes'))).exitCode, 0);
    assert.equal(await readFile(path, 'utf8'), text);
  });

  suite.onNode('leaves no store open when the next run extracts instead', async (node) => {
    assert.equal((await node.run(args('installed'))).state.delivery?.kind, 'mount');
    await node.output('podman', ['pull', suite.fixture.images.tag.reference], { env });
    const { exitCode, state, stderr } = await node.run(args('installed', '--delivery', 'extract'));
    assert.deepEqual(
      [exitCode, state.outcome, state.delivery?.kind, state.store, state.registry],
      [0, 'complete', 'extract', undefined, undefined],
      stderr,
    );
    assert.deepEqual(await node.ourMounts(), []);
    for (const more of [{}, { env }]) {
      const ran = await node.exec(
        'podman',
        ['run', '--rm', '--network=host', '--pull=never', suite.fixture.images.tag.reference, 'cat', '/etc/name'],
        more,
      );
      assert.deepEqual([ran.exitCode, ran.stdout], [0, 'tag'], ran.stderr);
    }
    // And back.
    const back = await node.run(args('installed'));
    assert.deepEqual([back.exitCode, back.state.outcome, back.state.delivery?.kind], [0, 'complete', 'mount'], back.stderr);
    assert.deepEqual(await node.readOnlyImages(env), names());
  });
});
