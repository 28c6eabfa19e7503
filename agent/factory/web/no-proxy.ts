import { BlockList, isIP } from 'node:net';

/**
 * Whether a server is asked without the proxy, by the rules of skopeo and podman. Entries are `*`, networks (10.0.0.0/8, fd00::/8), addresses and
 * names, the last two with or without a port. A name also covers the names below it; with a leading dot, only those. Other entries are ignored.
 * Pure. Source: golang.org/x/net/http/httpproxy, Config.NoProxy.
 * @param noProxy the value of NO_PROXY
 */
export function isWithoutProxy(url: URL, noProxy: string): boolean {
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '');
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return noProxy
    .split(',')
    .map((entry) => entry.trim().toLowerCase())
    .some((entry) => entry !== '' && isMeant(entry, { host, port }));
}

interface Server {
  readonly host: string;
  readonly port: string;
}

function isMeant(entry: string, server: Server): boolean {
  if (entry === '*') return true;
  const [, network, prefix] = /^([^/]+)\/(\d{1,3})$/.exec(entry) ?? [];
  if (network !== undefined) return isIn(server.host, network, Number(prefix));
  const { host, port } = partsOf(entry);
  if (port !== undefined && port !== server.port) return false;
  if (isIP(host) > 0 || isIP(server.host) > 0) return isSameAddress(host, server.host);
  const name = host.replace(/^\*\./, '.');
  return server.host.endsWith(name.startsWith('.') ? name : `.${name}`) || server.host === name;
}

/** An IPv6 address can have a port only if it is in brackets. */
function partsOf(entry: string): { readonly host: string; readonly port: string | undefined } {
  if (isIP(entry) > 0) return { host: entry, port: undefined };
  const [, bracketed, name, port] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(entry) ?? [];
  return { host: bracketed ?? name ?? entry, port };
}

function isIn(host: string, network: string, prefix: number): boolean {
  const family = isIP(network);
  if (family === 0 || isIP(host) !== family || prefix > (family === 4 ? 32 : 128)) return false;
  const list = new BlockList();
  list.addSubnet(network, prefix, familyName(family));
  return list.check(host, familyName(family));
}

function isSameAddress(one: string, other: string): boolean {
  const family = isIP(one);
  return family > 0 && isIn(other, one, family === 4 ? 32 : 128);
}

function familyName(family: number): 'ipv4' | 'ipv6' {
  return family === 4 ? 'ipv4' : 'ipv6';
}
