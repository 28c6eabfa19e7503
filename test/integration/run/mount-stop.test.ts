import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { makeLayer } from '../../support/image-layer.ts';
import { makeImage } from '../../support/images.ts';
import { buildBundle, type DataDisk, holdersOf, type MountFixture, type MountNode, makeDataDisk } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';

const SIZE_MIB = 200;

describe('a run that is asked to end while it copies', () => {
  let disk: DataDisk;
  const { onNode } = mountSuite({
    partitionMiB: 0,
    prepare: async ({ fixture, use }) => {
      disk = use(await makeDataDisk({ ...fixture, bundle: await makeBigBundle(fixture) }, SIZE_MIB + 320));
    },
  });

  for (const [stage, placement, partial] of [
    ['discovery', 'ram', '/run/prestage-agent/ram'],
    ['installed', 'disk', '/var/lib/prestage-agent/images'],
  ] as const) {
    onNode(`to the ${placement} leaves nothing of it and gives the partition back, and the next run completes`, async (node) => {
      const args = ['--stage', stage, '--label', disk.label, '--placement', placement, '--output', 'json'];
      await output(execOnLinux, 'sh', ['-c', 'sync; echo 3 > /proc/sys/vm/drop_caches']);
      const { ended, stop } = node.startRun(args);
      const until = performance.now() + 10_000;
      while (!(await isCopying(node, partial)) && performance.now() < until) await sleep(5);
      await stop();
      const { exitCode, stdout, stderr } = await ended;
      const state = JSON.parse(stdout);
      assert.deepEqual([exitCode, state.outcome, state.error.code], [11, 'interrupted', 'ERR_INTERRUPTED'], stderr);
      assert.deepEqual([await node.ourMounts(), await holdersOf(disk)], [[], []]);
      // The hash tree, which comes first, is a hundredth of the image, and the next run writes it again.
      const left = await readdir(node.path(partial)).catch(() => []);
      assert.deepEqual(
        left.filter((name) => !name.endsWith('.verity')),
        [],
      );
      assert.equal((await node.status()).readiness, 'interrupted');
      assert.equal((await node.podman('images')).exitCode, 0);

      const again = await node.run(args.slice(0, -2));
      assert.deepEqual([again.exitCode, again.state.outcome], [0, 'complete'], again.stderr);
      assert.equal((await node.status()).readiness, 'ready');
    });
  }
});

/** A bundle with an image of bytes that do not compress. */
async function makeBigBundle({ work, blobs, images }: MountFixture): Promise<string> {
  const noise = join(work, 'noise');
  await writeFile(noise, randomBytes(SIZE_MIB * 1024 * 1024));
  const layer = await makeLayer(blobs, [{ kind: 'copy', path: 'noise', from: noise, mode: 0o644 }]);
  const big = await makeImage(blobs, { name: 'quay.io/example/big', tag: 'v1', format: 'oci', layers: [layer] });
  const directory = join(work, 'big');
  await buildBundle({ blobs, images: [images.registry, big], directory });
  return directory;
}

/** Whether a copy has begun. */
async function isCopying(node: MountNode, directory: string): Promise<boolean> {
  for (const name of await readdir(node.path(directory)).catch(() => [])) {
    const size = (await stat(join(node.path(directory), name)).catch(() => undefined))?.size ?? 0;
    if (size > 0) return true;
  }
  return false;
}
