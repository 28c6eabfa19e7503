import { readServerEndpoint } from '../certificates/server-address.ts';
import type { RunContext } from '../load/context.ts';
import { PrestageError } from '../model/errors.ts';
import { formatAddress } from '../registry/serve/service-address.ts';

const LOOPBACK = '127.0.0.1';

/** Where the registry of this node answers, as registries.conf names it. @throws PrestageError ERR_SETTINGS */
export function registryAddress({ settings }: Pick<RunContext, 'settings'>): string {
  return formatAddress(listenAddress(settings), settings.registryPort);
}

/** What it listens on. @throws PrestageError ERR_SETTINGS */
export function listenAddress({ serve, serveAddress, registryPort }: RunContext['settings']): string {
  if (serve === 'node') return LOOPBACK;
  const endpoint = serveAddress === undefined ? undefined : readServerEndpoint(formatAddress(serveAddress, registryPort));
  if (endpoint !== undefined && !('fault' in endpoint)) return endpoint.address.text;
  throw new PrestageError(
    'ERR_SETTINGS',
    `the registry must serve the cluster, but serve-address ${endpoint === undefined ? 'is not set' : `cannot be used: ${endpoint.fault}`}`,
    'Set serve-address to the IPv4 address or the host name that other nodes use to reach this node',
  );
}
