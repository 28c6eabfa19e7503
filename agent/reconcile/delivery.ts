import type { Payload } from '../bundle/payload.ts';
import { PrestageError } from '../model/errors.ts';
import type { Settings } from '../model/settings.ts';

/** How images reach the engine, and why this way. */
export interface ChosenDelivery {
  readonly kind: 'extract';
  readonly reason: string;
}

/**
 * The delivery for a payload. Pure.
 * @throws PrestageError ERR_DELIVERY where the one that is asked for does not go with the payload
 */
export function chooseDelivery(wanted: Settings['delivery'], payload: Payload['kind']): ChosenDelivery {
  if (wanted === 'auto') return { kind: 'extract', reason: `a payload of ${payload} goes into containers-storage` };
  if (wanted === 'extract') return { kind: 'extract', reason: 'asked for by the settings' };
  throw new PrestageError('ERR_DELIVERY', `a payload of ${payload} cannot be delivered by "${wanted}"`, 'Set delivery to auto or extract');
}
