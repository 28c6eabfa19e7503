import assert from 'node:assert/strict';
import { readImageRecords } from '../../agent/storage/records.ts';
import { verifyImages } from '../power/verify-node.ts';
import type { Figures } from '../support/figures.ts';
import type { MountNode } from '../support/mount-node.ts';
import { type Delivery, deliverAll, deliveries, type SoakNode } from './node.ts';

const GRAPHROOT = '/var/lib/containers/storage';

/**
 * Stops a node uncleanly, boots it, and expects every image back, with no network: loaded again, or still there in the store.
 * @param count boots after the first
 * @returns what became of unclean stops, after which CRI-O removes its whole storage
 */
export async function wipeAgainAndAgain(soak: SoakNode, delivery: Delivery, count: number): Promise<Figures> {
  {
    await using node = await soak.boot();
    await deliverAll(soak, node, delivery);
  }
  for (let boot = 1; boot <= count; boot++) {
    await using node = await soak.boot();
    assert.deepEqual(await readImageRecords({ graphroot: node.path(GRAPHROOT) }), [], `boot ${boot}: CRI-O was to wipe the storage`);
    await deliverAll(soak, node, delivery);
    if (delivery !== deliveries.extract) await wipeUnderStore(soak, node);
  }
  return { scenario: `unclean stop, ${delivery.name}`, tried: count, recovered: count, lost: 0 };
}

/** With the store mounted: only what was in the main store goes. */
async function wipeUnderStore({ images }: SoakNode, node: MountNode): Promise<void> {
  await node.output('sh', ['-c', `umount ${GRAPHROOT}/overlay 2>/dev/null; find ${GRAPHROOT} -mindepth 1 -delete`]);
  await verifyImages(node, images, 'containers-storage');
}
