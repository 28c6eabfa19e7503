import { BlockList, isIP } from 'node:net';
import { PrestageError } from '../../model/errors.ts';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** Whether only this node can reach the address. */
export function isLoopback(address: string): boolean {
  const family = isIP(address);
  return family === 0 ? address === 'localhost' : LOOPBACK.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

/** `host:port` as clients write it; IPv6 in brackets (RFC 3986, 3.2.2). */
export function formatAddress(address: string, port: number): string {
  return isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The address that the registry listens on. Undefined, for all addresses, for a host name: it does not say which interface, and resolving it may need a network. */
export function listenHost(address: string): string | undefined {
  if (address === 'localhost') return '127.0.0.1';
  return isIP(address) === 0 ? undefined : address;
}

/** The address at which this node reaches it. */
export function probeHost(address: string): string {
  return listenHost(address) ?? '127.0.0.1';
}

/**
 * Refuses to serve other nodes without TLS, because anybody on the network could impersonate the registry.
 * @throws PrestageError ERR_USAGE
 */
export function checkServing(address: string, hasTls: boolean): void {
  if (isLoopback(address) || hasTls) return;
  throw new PrestageError(
    'ERR_USAGE',
    `the registry must serve other nodes on ${address}, but has no certificate`,
    'Make one with: prestage-agent certificates; then give --certificate and --key, or set tls-certificate and tls-key',
  );
}
