import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { formatBundle, parseBundle } from '../../../agent/model/bundle.ts';
import { STORAGE_CONF } from '../../../agent/model/places.ts';
import { buildBundle, type MountNode, STORE_IMAGE } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';
import { flipByte } from '../../support/store-bundle.ts';

const DROP_IN = '/etc/containers/registries.conf.d/50-prestage.conf';
const env = { CONTAINERS_STORAGE_CONF: STORAGE_CONF };

describe('a bundle with a store image and another payload', () => {
  const suite = mountSuite({ payloads: ['store', 'oci'], partitionMiB: 0 });
  const run = async (node: MountNode, bundle: string, ...more: readonly string[]) =>
    await node.run(['--stage', 'installed', '--bundle', bundle, ...more]);
  const changed = async (act: (directory: string) => Promise<void>): Promise<string> => {
    const directory = await mkdtemp(join(suite.fixture.work, 'changed-'));
    await cp(suite.fixture.bundle, directory, { recursive: true });
    await act(directory);
    return directory;
  };
  const references = (): readonly string[] => suite.fixture.all.map(({ reference }) => reference);

  /** Every image is in the node's own storage, and nothing of another delivery is left. */
  async function assertExtracted(node: MountNode, { exitCode, state, stderr }: Awaited<ReturnType<MountNode['run']>>): Promise<void> {
    assert.deepEqual(
      [exitCode, state.outcome, state.error, state.delivery?.kind, state.store, state.registry, state.payload],
      [0, 'complete', undefined, 'extract', undefined, undefined, 'oci'],
      stderr,
    );
    assert.deepEqual([await node.ourMounts(), existsSync(node.path(DROP_IN))], [[], false]);
    assert.equal(existsSync(node.path('/run/prestage-agent/registry')), false);
    assert.deepEqual(await readdir(node.path('/var/lib/prestage-agent/images')).catch(() => []), []);
    for (const reference of references()) assert.equal((await node.podman('image', 'exists', reference)).exitCode, 0, reference);
    const { readiness, reason } = await node.status();
    assert.deepEqual([readiness, reason], ['ready', `all ${references().length} images are in storage`]);
  }

  suite.onNode('is extracted if its store image cannot be opened, and the run says why', async (node) => {
    const rows: readonly (readonly [string, (directory: string) => Promise<void>, readonly string[], RegExp])[] = [
      ['is missing', async (top) => await rm(join(top, STORE_IMAGE)), [], /all\.squashfs cannot be read: it does not exist/],
      [
        'has a wrong byte',
        async (top) => await flipByte(join(top, STORE_IMAGE)),
        ['--trust', 'hash'],
        /the store image .*all\.squashfs does not match its bundle: /,
      ],
      ['cannot be trusted as asked for', async () => undefined, ['--trust', 'verity'], /^dm-verity was requested, but /],
      ['has a damaged mirror', spoilMirror, [], /does not match prestage\.json/],
    ];
    for (const [what, act, more, reason] of rows) {
      const ended = await run(node, await changed(act), ...more);
      await assertExtracted(node, ended);
      assert.match(
        ended.state.delivery?.reason ?? '',
        new RegExp(`${reason.source}.*; the oci payload is loaded into containers-storage$`),
        what,
      );
      const [notice = '', ...others] = ended.state.notices;
      assert.deepEqual(others, []);
      assert.match(notice, reason);
      assert.match(notice, /: the images are delivered by extract instead\. To mount them again: [A-Z]/);
    }
  });

  suite.onNode('is extracted on a kernel that cannot mount the store image, which is not called damaged', async (node) => {
    const bundle = await changed(useLzma);
    const ended = await run(node, bundle);
    await assertExtracted(node, ended);
    const unsupported =
      /^the kernel of this node cannot mount the store image .*all\.squashfs \(squashfs 4\.0 with lzma\), which is intact: /;
    assert.match(ended.state.delivery?.reason ?? '', unsupported);

    const asked = await run(node, bundle, '--delivery', 'mount');
    assert.deepEqual([asked.exitCode, asked.state.outcome, asked.state.error?.code], [9, 'failed', 'ERR_STORE_UNSUPPORTED'], asked.stderr);
    assert.match(asked.state.error?.message ?? '', unsupported);
    assert.equal((await node.podman('images', '--quiet')).exitCode, 0);
    // The same file with other bytes is damaged.
    await flipByte(join(bundle, STORE_IMAGE), 4000);
    const damaged = await run(node, bundle, '--delivery', 'mount');
    assert.match(damaged.state.error?.message ?? '', /has the sha256 [0-9a-f]{64}, but its bundle says [0-9a-f]{64}$/);
  });

  suite.onNode('is extracted if the store image does not go into memory', async (node) => {
    await writeFile(node.path('/run/meminfo'), 'MemTotal: 65536 kB\nMemFree: 60000 kB\nMemAvailable: 60000 kB\n');
    await node.output('mount', ['--bind', '/run/meminfo', '/proc/meminfo']);
    const ended = await run(node, suite.fixture.bundle, '--placement', 'ram', '--parallel', '1');
    await assertExtracted(node, ended);
    assert.match(
      ended.state.notices[0] ?? '',
      /^the store image needs [\d.]+ MiB of memory and [\d.]+ MiB must stay free, but only 58\.6 MiB is available: /,
    );
  });

  for (const placement of ['ram', 'disk', 'partition']) {
    suite.onNode(`leaves nothing of a mount with placement ${placement} when it is extracted`, async (node) => {
      await node.podman('images');
      const etc = await node.etcTree();
      const mounted = await run(node, suite.fixture.bundle, '--placement', placement, '--trust', 'hash', '--block-source', 'yes');
      assert.equal(mounted.exitCode, 0, mounted.stderr);
      await node.output('podman', ['pull', suite.fixture.images.tag.reference], { env });
      const ended = await run(node, suite.fixture.bundle, '--delivery', 'extract');
      await assertExtracted(node, ended);
      assert.deepEqual(await node.etcTree(), etc);
      assert.deepEqual(
        (await readdir(node.path('/var/lib/prestage-agent'))).filter((name) => !name.endsWith('.json')),
        [],
      );
      // A shell that was started before finds a storage.conf still.
      assert.equal((await node.exec('podman', ['images', '--quiet'], { env })).exitCode, 0);
    });
  }

  suite.onNode('does not tear a store image away from a container that runs', async (node) => {
    assert.equal((await run(node, suite.fixture.bundle)).exitCode, 0);
    const { reference } = suite.fixture.images.tag;
    await node.output('podman', ['run', '--detach', '--name', 'used', '--network=host', '--pull=never', reference, 'sleep', '600'], {
      env,
    });
    const ended = await run(node, suite.fixture.bundle, '--delivery', 'extract');
    assert.deepEqual([ended.exitCode, ended.state.outcome], [0, 'complete'], ended.stderr);
    assert.match(ended.state.notices.join('\n'), /^the open store image is kept, because it is in use: used; /);
    assert.deepEqual(await node.ourMounts(), ['/run/prestage-agent/data', '/var/lib/prestage-agent/store']);
    assert.equal(existsSync(node.path(DROP_IN)), false);
    assert.equal(await node.output('podman', ['exec', 'used', 'cat', '/etc/name'], { env }), 'tag');

    await node.output('podman', ['rm', '--force', '--time', '0', 'used'], { env });
    await assertExtracted(node, await run(node, suite.fixture.bundle, '--delivery', 'extract'));
  });

  suite.onNode('has no mirrors without a registry that answers, whatever a run before has set up', async (node) => {
    const blocked = ['--block-source', 'yes'];
    const mirrored = async (): Promise<void> => {
      const { exitCode, stderr } = await run(node, suite.fixture.bundle, ...blocked);
      assert.deepEqual([exitCode, existsSync(node.path(DROP_IN))], [0, true], stderr);
    };
    const { tag, digest, list } = suite.fixture.images;
    const less = join(suite.fixture.work, 'without-registry');
    await buildBundle({ blobs: suite.fixture.blobs, images: [tag, digest, list], directory: less });
    for (const first of [async () => undefined, mirrored]) {
      await first();
      const { exitCode, state, stderr } = await run(node, less, ...blocked);
      assert.deepEqual(
        [exitCode, state.outcome, state.registry, existsSync(node.path(DROP_IN))],
        [0, 'complete', undefined, false],
        stderr,
      );
      assert.deepEqual(
        ['/run/prestage-agent/registry', '/run/prestage-agent/mirror'].filter((path) => existsSync(node.path(path))),
        [],
      );
      assert.equal(await node.output('podman', ['run', '--rm', '--network=host', tag.reference, 'cat', '/etc/name'], { env }), 'tag');
      assert.equal((await node.status()).readiness, 'ready');
    }

    await mirrored();
    const failing = await run(node, suite.fixture.bundle, ...blocked, '--registry-command', '/nowhere');
    assert.deepEqual(
      [failing.exitCode, failing.state.outcome, failing.state.error?.code, existsSync(node.path(DROP_IN))],
      [4, 'complete', 'ERR_REGISTRY_IMAGE', false],
      failing.stderr,
    );
    assert.equal((await node.status()).readiness, 'degraded');

    // As after a reboot: the drop-in is there, nothing runs, and the partition does not come.
    await mirrored();
    const released = '/run/prestage-agent/registry';
    await node.output('podman', [
      ...['--root', `${released}/storage`, '--runroot', `${released}/run`, '--tmpdir', `${released}/tmp`, '--storage-driver', 'overlay'],
      ...['rm', '--force', 'prestage-registry'],
    ]);
    const gone = await node.run(['--stage', 'installed', '--label', 'gone', '--device-wait', '0']);
    assert.deepEqual([gone.state.error?.code, existsSync(node.path(DROP_IN))], ['ERR_PARTITION_MISSING', false], gone.stderr);
  });
});

/** One byte more in a manifest of the metadata tree. */
async function spoilMirror(top: string): Promise<void> {
  const blobs = join(top, 'store/mirror/docker/registry/v2/blobs/sha256');
  const names = (await readdir(await readable(blobs, top), { recursive: true })).filter((name) => name.endsWith('/data'));
  const [first = ''] = names.toSorted();
  await writeFile(join(await readable(blobs, top), first), 'other bytes');
}

/** The mirror of the installed stage has a folder of its own. */
async function readable(path: string, top: string): Promise<string> {
  const { payloads } = JSON.parse(await readFile(join(top, 'prestage.json'), 'utf8'));
  const { mirror } = payloads.find((one: { kind: string; stage?: string }) => one.kind === 'store' && one.stage === 'installed');
  return path.replace(/store\/mirror(?=\/)/, mirror);
}

/** Puts a store image of a compression in its place that no kernel mounts, and seals the bundle again. */
async function useLzma(top: string): Promise<void> {
  const path = join(top, STORE_IMAGE);
  const tree = await mkdtemp(join(top, '..', 'tree-'));
  await output(execOnLinux, 'sh', [
    '-c',
    'unsquashfs -force -dest "$1/files" "$2" >/dev/null && mksquashfs "$1/files" "$2" -comp lzma -noappend -quiet >/dev/null',
    'sh',
    tree,
    path,
  ]);
  await rm(tree, { recursive: true });
  const bytes = await readFile(path);
  const manifest = join(top, 'prestage.json');
  const bundle = parseBundle(await readFile(manifest, 'utf8'), manifest);
  const sealed = { sizeBytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
  await writeFile(
    manifest,
    formatBundle({
      ...bundle,
      payloads: bundle.payloads.map((payload) => {
        if (payload.kind !== 'store' || payload.image !== STORE_IMAGE) return payload;
        const { pieces: _, ...rest } = payload;
        return rest;
      }),
      files: bundle.files.map((file) => (file.path === STORE_IMAGE ? { ...file, ...sealed } : file)),
    }),
  );
}
