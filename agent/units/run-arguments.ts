import { PrestageError } from '../model/errors.ts';
import type { DeliveryChoice } from '../model/setting-values.ts';
import type { PlacementChoice, TrustChoice } from '../model/store.ts';

/** Settings that the unit passes on to `run`; what is left out, the node decides. */
export interface RunSettings {
  readonly delivery?: DeliveryChoice;
  readonly trust?: TrustChoice;
  readonly placement?: PlacementChoice;
  /** MiB. */
  readonly memoryReserve?: number | 'auto';
  /** Full reference of the image that serves; its grammar has nothing that systemd reads differently. */
  readonly registryImage?: string;
}

/** Where a node serves the others. */
export interface ServedAt {
  /** As readServerEndpoint gives it: nothing in it has a meaning for systemd. */
  readonly address: string;
  /** That of the settings where left out. */
  readonly port?: number;
}

/**
 * The settings as arguments of `run`, none of which needs quoting in a unit. A node that serves the others takes the delivery `registry`:
 * with a mounted store it would serve manifests without layers, and engines take both from the same mirror. Pure.
 * @throws PrestageError ERR_USAGE for a delivery that serves nobody
 */
export function runArguments(
  { delivery, trust, placement, memoryReserve, registryImage }: RunSettings,
  served: ServedAt | undefined,
): readonly string[] {
  if (served !== undefined && delivery !== undefined && delivery !== 'registry') {
    throw new PrestageError(
      'ERR_USAGE',
      `--serve cluster does not go with --delivery ${delivery}: other nodes need a registry with all layers`,
      'Leave out --delivery, and build the bundle with --payload registry',
    );
  }
  const values: readonly (readonly [string, string | number | undefined])[] = [
    ['delivery', served === undefined ? delivery : 'registry'],
    ['trust', trust],
    ['placement', placement],
    ['memory-reserve', memoryReserve],
    ['registry-image', registryImage],
    ['serve', served && 'cluster'],
    ['serve-address', served?.address],
    ['registry-port', served?.port],
  ];
  return values.flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, `${value}`]));
}
