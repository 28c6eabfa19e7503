import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { putSystemFiles, type SystemFile } from '../engine/owned-files.ts';
import { OWNED_MARK } from '../engine/system-file.ts';
import { hostPath } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';
import { mirrorDialect } from '../registry/registries-dialect.ts';
import { DROP_IN_PATH, type MirrorRequest, renderDropIn } from '../registry/registries-drop-in.ts';
import { reloadCrio } from '../registry/registries-reload.ts';
import { rewriteRegistries } from '../registry/registries-rewrite.ts';
import { REGISTRIES_CONF, readRegistries } from '../registry/registries-view.ts';
import { startRegistry } from '../registry/service.ts';
import { formatAddress } from '../registry/service-address.ts';
import { addNotices, type RunContext } from './context.ts';

const LOOPBACK = '127.0.0.1';

/** Where the registry of this node answers, as registries.conf names it. @throws PrestageError ERR_SETTINGS */
export function registryAddress({ settings }: Pick<RunContext, 'settings'>): string {
  return formatAddress(listenAddress(settings), settings.registryPort);
}

function listenAddress({ serve, serveAddress }: RunContext['settings']): string {
  if (serve === 'node') return LOOPBACK;
  if (serveAddress !== undefined) return serveAddress;
  throw new PrestageError(
    'ERR_SETTINGS',
    'the registry is to serve the cluster, and serve-address is not set',
    'Set serve-address to the address by which the other nodes reach this one',
  );
}

/** What a registry serves, and what it runs from. */
export interface Serving {
  /** The directory that holds `docker`. */
  readonly tree: string;
  readonly image: string;
  /** The store that has the image; the node's storage where left out. */
  readonly imageStore?: string;
}

/**
 * Serves a registry tree, and records it.
 * @throws PrestageError ERR_REGISTRY_*, ERR_SETTINGS
 */
export async function serveTree({ tree, image, imageStore }: Serving, context: RunContext): Promise<void> {
  const { host, settings, store, step, stop } = context;
  store.update({ phase: 'serving' });
  context.onEvent({ kind: 'phase', text: 'starting the registry' });
  const { address, how } = await startRegistry(host, {
    tree,
    image,
    command: settings.registryCommand,
    address: listenAddress(settings),
    port: settings.registryPort,
    ...(settings.serve === 'cluster' && {
      tls: { certificate: hostPath(host, settings.tlsCertificate), key: hostPath(host, settings.tlsKey) },
    }),
    ...(imageStore !== undefined && { imageStore }),
    step,
    signal: stop,
  });
  store.update({ registry: { address, how, tree, image } });
}

/**
 * Puts the registry of this node in front of sources, in registries.conf or beside it, and has a running CRI-O read it again.
 * @throws PrestageError ERR_REGISTRIES, ERR_SYSTEM_FILE
 */
export async function setMirrors(sources: MirrorRequest['sources'], context: RunContext): Promise<void> {
  const { host, settings, step } = context;
  const [view, dialect] = await Promise.all([readRegistries(host), mirrorDialect(host)]);
  const request: MirrorRequest = { sources, insecure: settings.serve === 'node', block: settings.blockSource };
  const { text, notices } = settings.rewrite
    ? rewriteRegistries(await readFile(hostPath(host, REGISTRIES_CONF), 'utf8').catch(() => ''), view, { request, dialect })
    : renderDropIn(view, request, dialect);
  addNotices(context, notices);
  const conf: SystemFile = settings.rewrite
    ? { path: REGISTRIES_CONF, content: text, how: 'edit' }
    : { path: DROP_IN_PATH, content: text, how: 'add' };
  const changed = await putSystemFiles(host, [conf, ...(await ownAuthority(context))], step);
  if (changed.length > 0) await step('reload-crio', async () => await reloadCrio(host));
}

/** A node that serves the cluster pulls from itself by TLS, too. Source: containers-certs.d(5). */
async function ownAuthority(context: RunContext): Promise<readonly SystemFile[]> {
  const { host, settings } = context;
  if (settings.serve === 'node') return [];
  const path = join(dirname(settings.tlsCertificate), 'ca.crt');
  const authority = await readFile(hostPath(host, path), 'utf8').catch(() => undefined);
  if (authority === undefined) {
    addNotices(context, [`${path} is not there: this node does not trust its own registry, unless it knows who signed its certificate`]);
    return [];
  }
  return [{ path: `/etc/containers/certs.d/${registryAddress(context)}/ca.crt`, content: `${OWNED_MARK}\n${authority}`, how: 'add' }];
}
