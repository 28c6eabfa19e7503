import type { StageBundle } from '../bundle/stage-bundle.ts';
import { PrestageError } from '../model/errors.ts';
import type { DeliveryChoice } from '../model/setting-table.ts';

/** How images reach the engine, and why this way. */
export interface ChosenDelivery {
  readonly kind: 'mount' | 'registry' | 'extract';
  readonly reason: string;
  /** Whether the images are also extracted, so that they are there without being pulled. */
  readonly extracts: boolean;
}

/** The facts that the choice depends on. */
export interface DeliveryFacts extends Pick<StageBundle, 'stage' | 'extractable'> {
  readonly wanted: DeliveryChoice;
  readonly hasStore: boolean;
  /** What a registry can serve directly from the bundle. */
  readonly served: 'registry' | 'oc-mirror' | undefined;
  /** Why the store image cannot be used on this node; undefined if it can, or if that is not known yet. */
  readonly refusal: string | undefined;
}

/** What a registry can serve directly from a bundle; undefined if there is nothing. */
export function servedKind({ registry, ocMirror }: Pick<StageBundle, 'registry' | 'ocMirror'>): DeliveryFacts['served'] {
  if (registry !== undefined) return 'registry';
  return ocMirror !== undefined ? 'oc-mirror' : undefined;
}

/** Whether a bundle can be delivered without its store image. */
export function hasOtherDelivery(bundle: Pick<StageBundle, 'registry' | 'ocMirror' | 'extractable'>): boolean {
  return servedKind(bundle) !== undefined || bundle.extractable !== undefined;
}

/**
 * The delivery for what a bundle holds. Pure.
 * @throws PrestageError ERR_DELIVERY if the bundle cannot be delivered as requested
 */
export function chooseDelivery(facts: DeliveryFacts): ChosenDelivery {
  return facts.wanted === 'auto' ? bestDelivery(facts) : askedDelivery(facts);
}

function bestDelivery({ stage, extractable, hasStore, served, refusal }: DeliveryFacts): ChosenDelivery {
  if (hasStore && refusal === undefined)
    return { kind: 'mount', extracts: false, reason: 'the bundle has a store image for the stage: nothing has to be unpacked' };
  const instead = refusal === undefined ? '' : `${refusal}; `;
  if (extractable === undefined) {
    if (served === undefined) throw nothingToDeliver(instead);
    return { kind: 'registry', extracts: false, reason: `${instead}the content of the bundle can only be served` };
  }
  if (served !== undefined && stage === 'installed')
    return {
      kind: 'registry',
      extracts: true,
      reason: `${instead}the bundle has a registry tree, and images for containers-storage`,
    };
  return { kind: 'extract', extracts: true, reason: `${instead}the ${extractable} payload is loaded into containers-storage` };
}

function askedDelivery({ wanted, extractable, hasStore, served }: DeliveryFacts): ChosenDelivery {
  const reason = 'requested in the settings';
  if (wanted === 'mount' && hasStore) return { kind: 'mount', extracts: false, reason };
  if (wanted === 'extract' && extractable !== undefined) return { kind: 'extract', extracts: true, reason };
  if (wanted === 'registry' && (served !== undefined || extractable !== undefined)) return { kind: 'registry', extracts: false, reason };
  const held = [hasStore ? 'store' : '', served ?? '', extractable ?? ''].filter((name) => name !== '').join(', ') || 'nothing';
  throw new PrestageError(
    'ERR_DELIVERY',
    `the content of the bundle for the stage (${held}) cannot be delivered by "${wanted}"`,
    wanted === 'mount' ? 'Build the bundle with --payload store, or set delivery to auto' : 'Set delivery to auto',
  );
}

function nothingToDeliver(instead: string): PrestageError {
  return new PrestageError(
    'ERR_PAYLOAD_MISSING',
    `${instead}the bundle has no other payload for the stage`,
    'Build the bundle with --payload store, oci or archives',
  );
}
