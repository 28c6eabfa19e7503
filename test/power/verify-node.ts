import assert from 'node:assert/strict';
import { STORAGE_CONF } from '../../agent/model/places.ts';
import type { MadeImage } from '../support/images.ts';
import type { MountNode } from '../support/mount-node.ts';

/** Where images are read from: the node's storage with what stores it is told of, or the registry that it is told to ask. */
export type Transport = 'containers-storage' | 'docker';

/**
 * Has skopeo read every byte of every image: layers of a storage are put together again from the files in it, whose checksums tar-split keeps, and
 * have the digests of the config; what a registry gives has the digests of the manifest.
 */
export async function verifyImages(node: Pick<MountNode, 'exec'>, images: readonly MadeImage[], transport: Transport): Promise<void> {
  const references = images.flatMap(({ reference }) =>
    transport === 'docker' ? `docker://${reference}` : `containers-storage:${reference}`,
  );
  const script = 'for ref do rm -rf /run/verified; skopeo copy --quiet "$ref" dir:/run/verified || { echo "$ref" >&2; exit 1; }; done';
  const env = { CONTAINERS_STORAGE_CONF: await storageConf(node) };
  const { exitCode, stderr } = await node.exec('sh', ['-c', script, 'sh', ...references], { env });
  assert.equal(exitCode, 0, stderr);
}

/** As podman units are pointed to it where a store is mounted. */
async function storageConf(node: Pick<MountNode, 'exec'>): Promise<string> {
  const { exitCode } = await node.exec('test', ['-e', STORAGE_CONF]);
  return exitCode === 0 ? STORAGE_CONF : '/etc/containers/storage.conf';
}
