import type { StageBundle, StoreBundle } from '../bundle/stage-bundle.ts';
import type { StorageLocation } from '../extract/storage.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { readOpenStore } from '../mount/store-record.ts';
import { addNotices, type Planned, type RunContext } from './context.ts';
import { type ChosenDelivery, chooseDelivery, type DeliveryFacts } from './delivery.ts';
import { extractPayload } from './extract.ts';
import { heal } from './heal.ts';
import { mountStore } from './mount.ts';
import { serveBundle } from './serve-bundle.ts';

/**
 * Chooses how the images of a bundle reach the engines, and has it done. Whether engines take a store image is known only when they are tried:
 * where they do not, and nothing else was asked for, the next best way is taken.
 */
export async function deliverBundle(bundle: StageBundle, location: StorageLocation, context: RunContext): Promise<Planned> {
  const chosen = choose(bundle, context, undefined);
  if (chosen.kind !== 'mount' || !hasStore(bundle)) return await deliverWithoutStore(chosen, bundle, location, context);
  const result = await mountStore(bundle, location, context);
  if (result.kind === 'mounted') return result.planned;
  context.host.log('warning', `the engines of this node do not take the store image: ${result.reason}`);
  if (context.settings.delivery === 'mount') {
    throw new PrestageError(
      'ERR_STORE_REFUSED',
      `the engines of this node do not take the store image: ${result.reason}`,
      'Set delivery to auto, with a bundle that has an oci or archives payload, too',
    );
  }
  return await deliverWithoutStore(choose(bundle, context, result.reason), bundle, location, context);
}

function choose(bundle: StageBundle, context: RunContext, refusal: string | undefined): ChosenDelivery {
  const delivery = chooseDelivery(factsOf(bundle, context, refusal));
  context.store.update({ delivery: { kind: delivery.kind, reason: delivery.reason } });
  return delivery;
}

function hasStore(bundle: StageBundle): bundle is StoreBundle {
  return bundle.store !== undefined && bundle.images !== undefined;
}

async function deliverWithoutStore(
  delivery: ChosenDelivery,
  bundle: StageBundle,
  location: StorageLocation,
  context: RunContext,
): Promise<Planned> {
  await leaveStore(location, context);
  if (delivery.kind === 'registry') return await serveBundle(delivery, bundle, location, context);
  return await extractPayload(await bundle.payload(), location, context);
}

/** A store that an earlier bundle brought goes: its images are not those of this bundle. */
async function leaveStore(location: StorageLocation, context: RunContext): Promise<void> {
  const { host, step, isDry } = context;
  const open = await readOpenStore(host);
  if (open === undefined || isDry) return;
  const error = errorRecord(
    new PrestageError(
      'ERR_STORE_EXCHANGED',
      `the store image ${open.image} is open, and the bundle is delivered in another way now`,
      'Nothing to do: the store image is closed',
    ),
  );
  addNotices(context, [`${error.message}: it was closed`, ...(await heal(error, { host, location, step }))]);
}

function factsOf(bundle: StageBundle, { settings }: RunContext, refusal: string | undefined): DeliveryFacts {
  const served = bundle.registry !== undefined ? 'registry' : bundle.ocMirror !== undefined ? 'oc-mirror' : undefined;
  return {
    wanted: settings.delivery,
    stage: bundle.stage,
    hasStore: bundle.store !== undefined,
    served,
    extractable: bundle.extractable,
    refusal,
  };
}
