import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DROP_IN_PATH } from '../engine/registries-drop-in.ts';
import { parseRegistries, type RegistryEntry } from '../engine/registries-file.ts';
import { REGISTRIES_CONF, readPublicRegistries } from '../engine/registries-view.ts';
import { ifMissing } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { readConfiguration } from '../host/read-configuration.ts';
import { REGISTRY_RUN } from '../model/places.ts';
import type { RunState } from '../model/run-state.ts';
import type { RegistryTarget } from '../registry/serve/ask-registry.ts';
import { registryHealth } from '../registry/serve/service.ts';
import { isLoopback, probeHost } from '../registry/serve/service-address.ts';
import { type Health, probeRegistry, provenHealth } from '../registry/serve/service-health.ts';
import { whoListens } from '../registry/serve/service-listener.ts';
import type { StatusFacts } from './facts.ts';
import { ASK_AS_ROOT, isDenied, type Look, look, seen } from './look.ts';
import { assertReadable } from './store-now.ts';

const PROBE_LIMIT_MS = 2000;

/** Asks every registry that engines of this node are meant to use: the one that the run started, and each that our mirrors name. */
export async function registriesNow(host: Host, state: RunState): Promise<Pick<StatusFacts, 'mirrors' | 'registries'>> {
  const mirrors = await look(async () => await ourMirrors(host));
  const own = state.registry?.address;
  const addresses = new Set([...(own === undefined ? [] : [own]), ...(mirrors.kind === 'seen' ? mirrors.value : [])]);
  const asked = [...addresses].map(async (address) => ({ address, answer: await ownRegistryHealth(host, address, own) }));
  return { mirrors, registries: await Promise.all(asked) };
}

/**
 * Asks a registry that our mirrors name whether it is healthy.
 * @param own `host:port` of the one that the run of this node started
 */
export async function ownRegistryHealth(host: Host, address: string, own: string | undefined): Promise<Look<Health>> {
  const answer = await look(async () => (address === own ? await askOwn(host, address) : await ask(host, address, { isOwn: false })));
  return answer.kind === 'seen' ? withoutUnseen(answer.value) : answer;
}

/** If it is unknown which process answered, the answer does not count. */
function withoutUnseen(health: Health): Look<Health> {
  const { listener } = health;
  return listener?.kind === 'unseen' ? { kind: 'unseen', reason: listener.reason, remedy: ASK_AS_ROOT } : seen(health);
}

/** `host:port` of the mirrors in our drop-in or in our lines of registries.conf that no other file names. */
export async function ourMirrors(host: Host): Promise<readonly string[]> {
  const [dropIn, main, others] = await Promise.all([
    entriesOf(host, DROP_IN_PATH),
    entriesOf(host, REGISTRIES_CONF),
    readPublicRegistries(host),
  ]);
  const theirs = new Set(mirrorsOf(others.entries));
  return mirrorsOf([...dropIn, ...main]).filter((address) => !theirs.has(address));
}

function mirrorsOf(entries: readonly RegistryEntry[]): readonly string[] {
  const locations = entries.flatMap(({ mirrors }) => mirrors.map(({ location }) => location));
  return [...new Set(locations.map((location) => location.split('/')[0] ?? location))];
}

async function entriesOf(host: Host, path: string): Promise<readonly RegistryEntry[]> {
  const text = await readConfiguration(host, path);
  return text === undefined ? [] : parseRegistries(text, path).entries;
}

/** Only root may read the record of our registry, since its directory holds a key. Other users ask the registry as its clients do. */
async function askOwn(host: Host, address: string): Promise<Health> {
  try {
    await assertReadable(hostPath(host, `${REGISTRY_RUN}/registry.json`));
  } catch (error) {
    if (isDenied(error)) return await ask(host, address, { isOwn: true });
    throw error;
  }
  return await registryHealth(host, address);
}

/**
 * Asks as an engine does: by plain HTTP on this node, else by TLS with the CA that is installed for it; source: containers-certs.d(5). On this node
 * the answering process must be our registry.
 */
async function ask(host: Host, address: string, { isOwn }: { readonly isOwn: boolean }): Promise<Health> {
  const target = await targetOf(host, address);
  const answer = await probeRegistry(target);
  const isHere = isOwn || isLoopback(target.host);
  return isHere && answer.healthy
    ? provenHealth(answer, await whoListens(host, { address: probeHost(target.host), port: target.port }))
    : answer;
}

/** How an engine reaches a registry by `host:port`. */
export async function targetOf(host: Host, address: string): Promise<RegistryTarget> {
  const [, name = address, digits] = /^\[?(.+?)\]?(?::(\d+))?$/.exec(address) ?? [];
  const port = Number(digits ?? (isLoopback(name) ? 80 : 443));
  const target = { host: name, port, timeoutMs: PROBE_LIMIT_MS };
  return isLoopback(name) ? target : { ...target, authority: await authorityFor(host, address) };
}

/** All CAs that are installed for an address; if empty, the CAs of this machine apply. Source: containers-certs.d(5). */
async function authorityFor(host: Host, address: string): Promise<string> {
  const directory = `/etc/containers/certs.d/${address}`;
  const names = await readdir(hostPath(host, directory)).catch(ifMissing(() => []));
  const texts = names.filter((name) => name.endsWith('.crt')).map(async (name) => await readConfiguration(host, join(directory, name)));
  return (await Promise.all(texts)).join('\n');
}
