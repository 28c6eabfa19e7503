import { rm } from 'node:fs/promises';
import type { ExecResult } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';
import { doesNotMount, mountReason, mountSquashfs } from './mount-image.ts';
import { mountRefusal, squashfsKind } from './mount-refusal.ts';
import { hashImage, type PlacedImage, type PlaceRequest } from './place-image.ts';
import type { StoreRecord } from './store-record.ts';

export interface PlacedMount {
  readonly record: StoreRecord;
  readonly placed: PlacedImage;
  /** The file, or the device on top of it. */
  readonly source: string;
  readonly request: Pick<PlaceRequest, 'image' | 'pool' | 'signal' | 'onProgress'>;
}

/**
 * Mounts a store image that is in its place. A copy that cannot be mounted is not kept.
 * @throws PrestageError ERR_STORE_MOUNT, ERR_STORE_UNSUPPORTED if the image is intact and the kernel cannot mount it, ERR_STORE_DIGEST if it is
 * not intact
 */
export async function mountPlaced(host: Host, mount: PlacedMount): Promise<void> {
  const { record, source } = mount;
  const mounted = await mountSquashfs(host, { source, isFile: record.trust !== 'verity' });
  if (mounted.exitCode === 0) return;
  const fault = await mountFault(host, mount, mounted).catch((error: unknown) => error);
  if (record.placement === 'disk') await rm(record.image, { force: true });
  throw fault;
}

/** A damaged image and a kernel that lacks something give the same errno, so the bytes are hashed to tell which it is. */
async function mountFault(host: Host, { record, placed, source, request }: PlacedMount, mounted: ExecResult): Promise<PrestageError> {
  const refusal = mountRefusal(mounted.stderr);
  const reason = await mountReason(host, mounted);
  if (refusal === 'other') return doesNotMount(source, reason);
  const isChecked = placed.isHashed || record.trust === 'verity';
  if (refusal === 'either' && !isChecked) await hashImage(request, { ...request.image, path: placed.path }, placed.path);
  const kind = await squashfsKind(placed.path);
  if (kind === undefined) return doesNotMount(source, `it is not a squashfs: ${reason}`);
  return new PrestageError(
    'ERR_STORE_UNSUPPORTED',
    `the kernel of this node cannot mount the store image ${placed.path} (${kind}), which is intact: ${reason}`,
    'Build the bundle with --store-compression gzip, which all OpenShift kernels can read, or add an oci or archives payload and leave delivery at auto',
  );
}
