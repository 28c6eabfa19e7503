import { BlockList, isIP } from 'node:net';
import { PrestageError } from '../model/errors.ts';
import { listFaults, quoteInput } from '../model/faults.ts';

/** The address that other nodes use to reach a server of images. */
export interface ServerAddress {
  readonly kind: 'ip' | 'name';
  /** IPv6 without brackets, in its shortest form; names in lower case. */
  readonly text: string;
}

/** A label of a host name. Source: RFC 1123, 2.1; underscores, which DNS itself allows, are in no certificate and no image reference. */
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** Longest host name in characters. Source: RFC 1035, 2.3.4, without the length bytes. */
const NAME_LIMIT = 253;

/** IP addresses at which other nodes cannot reach a server, with the reasons. Source: IANA special-purpose address registries. */
const UNREACHABLE: readonly { readonly list: BlockList; readonly why: string }[] = [
  { list: listOf([['0.0.0.0', 8]], [['::', 128]]), why: 'it stands for all addresses of a machine, not for one' },
  { list: listOf([['127.0.0.0', 8]], [['::1', 128]]), why: 'only the machine itself can reach it' },
  { list: listOf([['224.0.0.0', 3]], [['ff00::', 8]]), why: 'it is not the address of one machine' },
  { list: listOf([], [['fe80::', 10]]), why: 'it has a different meaning on each network' },
];

/**
 * The address in a text, or why other nodes cannot reach a server by it.
 * Source: net.isIP, RFC 1123, 2.1. Wildcards are refused: anybody with their key could impersonate every host of the domain.
 */
export function readServerAddress(text: string): ServerAddress | { readonly fault: string } {
  if (text.includes('%')) return { fault: `${quoteInput(text)} has a zone, which is valid only on one machine` };
  const version = isIP(text);
  if (version !== 0) {
    const family = version === 4 ? 'ipv4' : 'ipv6';
    const unreachable = UNREACHABLE.find(({ list }) => list.check(text, family));
    if (unreachable !== undefined) return { fault: `${quoteInput(text)} cannot be reached by other nodes: ${unreachable.why}` };
    return { kind: 'ip', text: version === 4 ? text : new URL(`http://[${text}]`).hostname.slice(1, -1) };
  }
  const name = text.toLowerCase();
  if (name.includes('*')) return { fault: `${quoteInput(text)} is a wildcard: give the name of each server` };
  if (name === 'localhost' || name.endsWith('.localhost'))
    return { fault: `${quoteInput(text)} cannot be reached by other nodes: only the machine itself can reach it` };
  const labels = name.split('.');
  const isName = name.length <= NAME_LIMIT && labels.every((label) => LABEL.test(label)) && !/^\d+$/.test(labels.at(-1) ?? '');
  return isName ? { kind: 'name', text: name } : { fault: `${quoteInput(text)} is neither an IP address nor a host name` };
}

/**
 * Addresses, each once.
 * @throws PrestageError ERR_USAGE with every fault
 */
export function readServerAddresses(texts: readonly string[]): readonly ServerAddress[] {
  const read = texts.map(readServerAddress);
  const faults = read.flatMap((address) => ('fault' in address ? [address.fault] : []));
  const addresses = read.flatMap((address) => ('fault' in address ? [] : [address]));
  const twice = addresses.filter(({ text }, index) => addresses.findIndex((other) => other.text === text) !== index);
  const all = [...faults, ...twice.map(({ text }) => `${quoteInput(text)} is given twice`)];
  if (all.length === 0) return addresses;
  throw new PrestageError(
    'ERR_USAGE',
    listFaults('these are not addresses of servers', all),
    'For each server, give the IP address or the host name that other nodes use to reach it',
  );
}

/** A registry, by address and port as engines name it. */
export interface ServerEndpoint {
  readonly address: ServerAddress;
  readonly port: number;
  /** `HOST:PORT`, as in a reference. */
  readonly text: string;
}

/**
 * The registry that `HOST:PORT`, or `HOST` if a port is meant by default, names, or why it cannot be a mirror. IPv6 addresses are refused: container tools do not accept them as a registry,
 * and a mirror with one makes them fail before they ask the next (podman 4.3.1: "rewriting reference: invalid reference format").
 */
export function readServerEndpoint(given: string, defaultPort?: number): ServerEndpoint | { readonly fault: string } {
  const text = given.includes(':') || defaultPort === undefined ? given : `${given}:${defaultPort}`;
  const colon = text.lastIndexOf(':');
  const [host, port] = [text.slice(0, Math.max(colon, 0)), text.slice(colon + 1)];
  if (text.startsWith('[') || isIP(text) === 6 || isIP(host) === 6)
    return { fault: `${quoteInput(text)} is an IPv6 address, which container tools do not accept as a registry: give a host name` };
  if (!/^[1-9]\d{0,4}$/.test(port) || Number(port) > 65_535 || host === '') return { fault: `${quoteInput(text)} is not HOST:PORT` };
  const address = readServerAddress(host);
  if ('fault' in address) return address;
  return { address, port: Number(port), text: `${address.text}:${Number(port)}` };
}

function listOf(v4: readonly (readonly [string, number])[], v6: readonly (readonly [string, number])[]): BlockList {
  const list = new BlockList();
  for (const [net, bits] of v4) list.addSubnet(net, bits, 'ipv4');
  for (const [net, bits] of v6) list.addSubnet(net, bits, 'ipv6');
  return list;
}
