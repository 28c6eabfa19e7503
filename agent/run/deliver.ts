import type { StageBundle, StoreBundle } from '../bundle/stage-bundle.ts';
import { addNotices, type Planned, type RunContext } from '../load/context.ts';
import { extractPayload } from '../load/load-payload.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { closeStore } from '../mount/close-store.ts';
import { readOpenStore } from '../mount/store-record.ts';
import type { StorageLocation } from '../storage/records.ts';
import { assessStore, probeStore } from '../undo/assess-store.ts';
import { type ChosenDelivery, chooseDelivery, type DeliveryFacts, hasOtherDelivery, servedKind } from './choose-delivery.ts';
import { heal } from './heal.ts';
import { type LeaveRequest, leaveAll, leaveStore } from './leave.ts';
import { type MountResult, mountStore } from './mount.ts';
import { serveBundle } from './serve-bundle.ts';

/**
 * Chooses how the images of a bundle reach the engines, and delivers them. Only an attempt shows whether a store image can be opened, and whether
 * engines accept it. If it fails, and the settings do not demand `mount`, the next best delivery is used.
 * @throws PrestageError why the store image cannot be used, if the bundle has no other delivery; errors of the delivery that is used
 */
export async function deliverBundle(bundle: StageBundle, location: StorageLocation, context: RunContext): Promise<Planned> {
  const chosen = choose(bundle, context, undefined);
  if (chosen.kind !== 'mount' || !hasStore(bundle))
    return await deliverWithoutStore(chosen, bundle, { location, comesBack: false }, context);
  const hasOthers = context.settings.delivery === 'auto' && hasOtherDelivery(bundle);
  const result = await mountStore(bundle, location, context).catch((error: unknown): Unusable => {
    if (!hasOthers || context.stop.aborted || isSettingFault(error)) throw error;
    return { kind: 'unusable', error: errorRecord(error) };
  });
  if (result.kind === 'mounted') return result.planned;
  const error = result.kind === 'refused' ? refusalRecord(result.reason) : result.error;
  if (!hasOthers) {
    await closeStore(context.host, { act: context.act, force: false });
    throw new PrestageError(error.code, error.message, error.remedy);
  }
  return await deliverInstead(error, bundle, location, context);
}

/** The store image could not be opened, or not be set up. */
interface Unusable {
  readonly kind: 'unusable';
  readonly error: ErrorRecord;
}

/** The settings ask for something impossible; another delivery would hide that. */
function isSettingFault(error: unknown): boolean {
  return error instanceof PrestageError && ['ERR_SETTINGS', 'ERR_USAGE', 'ERR_CERTIFICATE'].includes(error.code);
}

function refusalRecord(reason: Extract<MountResult, { kind: 'refused' }>['reason']): ErrorRecord {
  return {
    code: 'ERR_STORE_REFUSED',
    message: `the engines of this node do not accept the store image: ${reason}`,
    remedy: 'Set delivery to auto, and use a bundle that also has an oci or archives payload',
  };
}

/** The next best delivery, with nothing left of the first one. */
async function deliverInstead(error: ErrorRecord, bundle: StageBundle, location: StorageLocation, context: RunContext): Promise<Planned> {
  const { host, record } = context;
  record.update({ store: undefined, registry: undefined, error: undefined, images: [] });
  const chosen = choose(bundle, context, error.message);
  host.log('warning', `${error.message}; the images are delivered by ${chosen.kind} instead`);
  addNotices(context, [`${error.message}: the images are delivered by ${chosen.kind} instead. To mount them again: ${error.remedy}`]);
  await healUnreadable(error, location, context);
  return await deliverWithoutStore(chosen, bundle, { location, comesBack: true }, context);
}

/** An open store that cannot be read makes every engine command fail, so it is closed even if something uses it. */
async function healUnreadable(failure: ErrorRecord, location: StorageLocation, context: RunContext): Promise<void> {
  const { host, act } = context;
  const open = await readOpenStore(host);
  if (open === undefined) return;
  const verdict = assessStore({ failure, open, probe: await probeStore(host) });
  if (verdict.kind === 'heal') addNotices(context, await heal(verdict.error, { host, location, act }));
}

function choose(bundle: StageBundle, context: RunContext, refusal: string | undefined): ChosenDelivery {
  const delivery = chooseDelivery(factsOf(bundle, context, refusal));
  context.record.update({ delivery: { kind: delivery.kind, reason: delivery.reason } });
  return delivery;
}

function hasStore(bundle: StageBundle): bundle is StoreBundle {
  return bundle.store !== undefined && bundle.images !== undefined;
}

async function deliverWithoutStore(
  delivery: ChosenDelivery,
  bundle: StageBundle,
  leaving: LeaveRequest,
  context: RunContext,
): Promise<Planned> {
  const { location } = leaving;
  if (delivery.kind === 'registry') {
    if (!context.isDry) await leaveStore(leaving, context);
    return await serveBundle(delivery, bundle, location, context);
  }
  if (!context.isDry) await leaveAll(leaving, context);
  return await extractPayload(await bundle.payload(), location, context);
}

function factsOf(bundle: StageBundle, { settings }: RunContext, refusal: string | undefined): DeliveryFacts {
  return {
    wanted: settings.delivery,
    stage: bundle.stage,
    hasStore: bundle.store !== undefined,
    served: servedKind(bundle),
    extractable: bundle.extractable,
    refusal,
  };
}
