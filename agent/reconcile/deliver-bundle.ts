import type { StageBundle } from '../bundle/stage-bundle.ts';
import type { StorageLocation } from '../extract/storage.ts';
import type { Planned, RunContext } from './context.ts';
import { type ChosenDelivery, chooseDelivery, type DeliveryFacts } from './delivery.ts';
import { extractPayload } from './extract.ts';

/** Chooses how the images of a bundle reach the engines, and has it done. */
export async function deliverBundle(bundle: StageBundle, location: StorageLocation, context: RunContext): Promise<Planned> {
  const delivery = chooseDelivery(factsOf(bundle, context, undefined));
  context.store.update({ delivery: { kind: delivery.kind, reason: delivery.reason } });
  return await deliverBy(delivery, bundle, location, context);
}

async function deliverBy(delivery: ChosenDelivery, bundle: StageBundle, location: StorageLocation, context: RunContext): Promise<Planned> {
  return await extractPayload(await bundle.payload(), location, context);
}

function factsOf(bundle: StageBundle, { settings }: RunContext, refusal: string | undefined): DeliveryFacts {
  const served = bundle.registry !== undefined ? 'registry' : bundle.ocMirror.length > 0 ? 'oc-mirror' : undefined;
  return {
    wanted: settings.delivery,
    stage: bundle.stage,
    hasStore: bundle.store !== undefined,
    served,
    extractable: bundle.extractable,
    refusal,
  };
}
