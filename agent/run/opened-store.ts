import { probeEngines } from '../engine/probe.ts';
import { hostPath } from '../host/host.ts';
import type { RunContext } from '../load/context.ts';
import type { BundleImage } from '../model/bundle.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { MIRROR_PATH } from '../model/places.ts';
import type { ImageState } from '../model/run-state.ts';
import { dropDamagedCopy, hashStore, recordIntact } from '../mount/check-store.ts';
import { findCheckTarget } from '../mount/check-target.ts';
import { closeStore } from '../mount/close-store.ts';
import type { OpenedStore } from '../mount/open-store.ts';
import { digestFault } from '../mount/store-image.ts';
import { stopRegistry } from '../registry/serve/service.ts';
import { isPresent } from '../storage/is-present.ts';
import { inspectRecords } from '../storage/records.ts';
import { removeMirrors } from './mirrors.ts';
import { serveTree } from './serve.ts';

/**
 * Hashes an open store that lacks images at once, and does not wait for the check behind the boot: it may be damaged, and damaged records make
 * every engine command fail.
 * @param fault why it is hashed; continues the path of the image
 * @throws PrestageError ERR_STORE_DIGEST, with the store closed
 */
export async function assertIntact({ image }: OpenedStore, fault: string, context: RunContext): Promise<void> {
  const { host, act, stop } = context;
  const target = await findCheckTarget(host);
  if (target === undefined) return;
  const found = await hashStore(host, target, stop);
  if (found.kind === 'intact') return await recordIntact(host, target, act);
  await dropDamagedCopy(target, act);
  await removeMirrors(context);
  await stopRegistry(host, act);
  await closeStore(host, { act, force: true });
  throw digestFault(image, `${fault}, and it ${found.fault}`);
}

/** Whether a registry answers from a store, or the engines do not accept the store. */
type Served = { readonly kind: 'served' | 'not-served' } | { readonly kind: 'refused'; readonly reason: string };

/** Asks the engines whether they accept the store. */
export async function probeOpened(opened: OpenedStore, { host, stop }: RunContext): Promise<Served> {
  const { accepted, reason } = await probeEngines(host, opened.path, { signal: stop });
  return accepted ? { kind: 'not-served' } : { kind: 'refused', reason };
}

/**
 * Starts the registry from an image in the store. If it starts, the engines accept the store; they are asked only if it does not start.
 * @throws PrestageError of assertIntact
 */
export async function serveOpened(
  { image, blobs }: { readonly image: string; readonly blobs: string | undefined },
  opened: OpenedStore,
  context: RunContext,
): Promise<Served> {
  try {
    await serveTree({ tree: hostPath(context.host, MIRROR_PATH), blobs, image, imageStore: opened.path }, context);
    return { kind: 'served' };
  } catch (error) {
    const answer = await probeOpened(opened, context);
    if (answer.kind === 'refused') return answer;
    // dm-verity refuses to read a damaged block, which ends the program that needs it, and no check of such a store runs behind the boot.
    if (opened.verified === 'kernel') await assertIntact(opened, 'has a registry that does not start', context);
    context.record.update({ error: errorRecord(error) });
    return answer;
  }
}

/** The images of the stage, as the mounted store has them. */
export async function imagesOf(images: readonly BundleImage[], opened: OpenedStore): Promise<readonly ImageState[]> {
  const contents = await inspectRecords({ graphroot: opened.path });
  return images.map(({ reference, names, manifestDigest }): ImageState => {
    const image = { reference, names: [...names], digests: [manifestDigest] };
    if (isPresent(image, contents)) return { ...image, state: 'present', reason: 'it is in the mounted store' };
    const error = new PrestageError(
      'ERR_STORE_IMAGE',
      `the store image does not have ${reference} under all its names with the digest ${manifestDigest}`,
      'Build the bundle again at the factory, and verify it there',
    );
    return { ...image, state: 'failed', reason: error.message, error: errorRecord(error) };
  });
}
