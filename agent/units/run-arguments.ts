import { PrestageError } from '../model/errors.ts';
import type { DeliveryChoice } from '../model/setting-table.ts';
import type { PlacementChoice, TrustChoice } from '../model/store.ts';

/** Settings that the unit passes on to `run`. The node decides settings that are left out. */
export interface RunSettings {
  readonly delivery?: DeliveryChoice;
  readonly trust?: TrustChoice;
  readonly placement?: PlacementChoice;
  /** MiB. */
  readonly memoryReserve?: number | 'auto';
  /** Full reference of the registry image. References contain no character that systemd interprets. */
  readonly registryImage?: string;
}

/** Address at which a node serves the others. */
export interface ServedAt {
  /** From readServerEndpoint; contains no character that systemd interprets. */
  readonly address: string;
  /** Defaults to the port in the settings. */
  readonly port?: number;
}

/**
 * The settings as arguments of `run`. None of them needs quoting in a unit. A node that serves the others uses the delivery `registry`: with a mounted
 * store it would serve manifests without layers, but engines pull both from the same mirror. Pure.
 * @throws PrestageError ERR_USAGE for a delivery that cannot serve others
 */
export function runArguments(
  { delivery, trust, placement, memoryReserve, registryImage }: RunSettings,
  served: ServedAt | undefined,
): readonly string[] {
  if (served !== undefined && delivery !== undefined && delivery !== 'registry') {
    throw new PrestageError(
      'ERR_USAGE',
      `--serve cluster cannot be combined with --delivery ${delivery}: other nodes need a registry with all layers`,
      'Omit --delivery, and build the bundle with --payload registry',
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
