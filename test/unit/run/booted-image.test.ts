import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { linuxHost } from '../../../agent/host/linux.ts';
import { bootedImage } from '../../../agent/run/booted-image.ts';
import { planSystems } from '../../../agent/run/systems.ts';
import { digestFor } from '../../support/source-images.ts';

const BOOT = '/ostree/boot.1/rhcos/abc/0';

/** A node whose deployment has an origin. */
async function ostreeNode(origin: string | undefined) {
  const root = await mkdtemp(join(tmpdir(), 'booted-image-'));
  const deployment = join(root, 'ostree/deploy/rhcos/deploy/def.0');
  await mkdir(deployment, { recursive: true });
  await mkdir(dirname(join(root, BOOT)), { recursive: true });
  await symlink('../../../deploy/rhcos/deploy/def.0', join(root, BOOT));
  if (origin !== undefined) await writeFile(`${deployment}.origin`, origin);
  return { host: linuxHost({ root, env: {}, log: () => {} }), [Symbol.asyncDispose]: async () => await rm(root, { recursive: true }) };
}

test('the booted image is that of the deployment which the kernel was told of', async () => {
  const digest = digestFor('system');
  await using node = await ostreeNode(`[origin]\ncontainer-image-reference=ostree-unverified-registry:quay.io/e/os@${digest}\n`);
  const { host } = node;
  assert.equal(await bootedImage(host, `root=UUID=1 ostree=${BOOT} rw`), digest);
  for (const other of ['root=UUID=1', 'ostree=/etc/passwd', 'ostree=/ostree/boot.1/rhcos/other/0', `xostree=${BOOT}`])
    assert.equal(await bootedImage(host, other), undefined, other);
  for (const origin of [
    undefined,
    '[origin]\nrefspec=rhcos:x\n',
    'container-image-reference=ostree-unverified-registry:quay.io/e/os:latest\n',
  ]) {
    await using plain = await ostreeNode(origin);
    assert.equal(await bootedImage(plain.host, `ostree=${BOOT}`), undefined);
  }
});

test('operating systems are served unless the bundle has none, nothing pivots, or a node with its store in memory runs its own', async () => {
  const digest = digestFor('system');
  const top = await mkdtemp(join(tmpdir(), 'systems-'));
  await using node = await ostreeNode(`container-image-reference=ostree-unverified-registry:quay.io/e/os@${digest}\n`);
  const { host } = node;
  const reference = `quay.io/e/os@${digest}`;
  const image = { reference, names: [reference], manifestDigest: digest, compressedBytes: 0, unpackedBytes: 0 };
  const bundle = (osTree: { path: string; files: readonly [] } | undefined, unmirrored: readonly string[]) => ({
    directory: top,
    images: [image],
    store: { unmirrored, osTree },
  });
  const tree = { path: join(top, 'store/installed.os'), files: [] as const };
  const kernelArguments = `ostree=${BOOT}`;
  const whole = { images: [image], tree: { ...tree, data: join(host.root, 'run/prestage-agent/data/store/installed.os') } };
  try {
    const plan = async (
      of: ReturnType<typeof bundle>,
      placement: 'ram' | 'auto',
      stage: 'installed' | 'discovery' = 'installed',
      booted = '',
    ) => await planSystems(of, placement, { host, stage }, booted);
    assert.deepEqual(await plan(bundle(tree, []), 'auto'), { images: [], because: { state: 'absent', reason: 'the bundle has none' } });
    const stored = { images: [image], because: { state: 'stored', reason: 'pulls go to the source' } };
    assert.deepEqual(await plan(bundle(undefined, [reference]), 'auto'), stored);
    assert.deepEqual(await plan(bundle(tree, [reference]), 'auto', 'discovery'), stored);
    assert.deepEqual(await plan(bundle(tree, [reference]), 'auto', 'installed', kernelArguments), whole);
    assert.deepEqual(await plan(bundle(tree, [reference]), 'ram'), whole);
    assert.deepEqual(await plan(bundle(tree, [reference]), 'ram', 'installed', kernelArguments), {
      images: [image],
      because: { state: 'booted', reason: 'the node runs it, and the partition is free' },
    });
  } finally {
    await rm(top, { recursive: true });
  }
});
