import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crioPid } from '../engine/crio-process.ts';
import { putSystemFiles, type SystemFile } from '../engine/owned-files.ts';
import { OWNED_MARK } from '../engine/system-file.ts';
import { writeAtomic } from '../host/atomic.ts';
import { hostPath } from '../host/host.ts';
import { digestOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { readCertificates, readPrivateKey, serverFault } from '../registry/pem.ts';
import { mirrorDialect } from '../registry/registries-dialect.ts';
import { DROP_IN_PATH, type MirrorRequest, renderDropIn } from '../registry/registries-drop-in.ts';
import { reloadCrio } from '../registry/registries-reload.ts';
import { rewriteRegistries } from '../registry/registries-rewrite.ts';
import { REGISTRIES_CONF, readRegistries } from '../registry/registries-view.ts';
import { readServerAddress, readServerEndpoint } from '../registry/server-address.ts';
import { startRegistry } from '../registry/service.ts';
import { formatAddress } from '../registry/service-address.ts';
import { addNotices, type RunContext } from './context.ts';

const LOOPBACK = '127.0.0.1';

/** Where the registry of this node answers, as registries.conf names it. @throws PrestageError ERR_SETTINGS */
export function registryAddress({ settings }: Pick<RunContext, 'settings'>): string {
  return formatAddress(listenAddress(settings), settings.registryPort);
}

function listenAddress({ serve, serveAddress, registryPort }: RunContext['settings']): string {
  if (serve === 'node') return LOOPBACK;
  const endpoint = serveAddress === undefined ? undefined : readServerEndpoint(formatAddress(serveAddress, registryPort));
  if (endpoint !== undefined && !('fault' in endpoint)) return endpoint.address.text;
  throw new PrestageError(
    'ERR_SETTINGS',
    `the registry is to serve the cluster, and serve-address ${endpoint === undefined ? 'is not set' : `cannot be used: ${endpoint.fault}`}`,
    'Set serve-address to the IPv4 address or the host name by which the other nodes reach this one',
  );
}

/**
 * Refuses to serve others by what they would refuse. Whether the certificate is still valid is for their clocks to say: that of a node can be wrong
 * at boot. Files that cannot be read are told when it is started.
 * @throws PrestageError ERR_CERTIFICATE
 */
async function checkCertificate({ host, settings }: RunContext): Promise<void> {
  const paths = { certificate: hostPath(host, settings.tlsCertificate), key: hostPath(host, settings.tlsKey) };
  const [text, key] = await Promise.all([paths.certificate, paths.key].map((path) => readFile(path, 'utf8').catch(() => undefined)));
  if (text === undefined || key === undefined) return;
  const chain = readCertificates(text, paths.certificate);
  const [leaf] = chain;
  const address = readServerAddress(listenAddress(settings));
  if (leaf === undefined || 'fault' in address) return;
  const isItsKey = leaf.checkPrivateKey(readPrivateKey(key, paths.key));
  const fault = isItsKey
    ? serverFault({ chain, authorities: chain, address, now: leaf.validFromDate })
    : `${paths.key} is the key of another one`;
  if (fault === undefined) return;
  throw new PrestageError(
    'ERR_CERTIFICATE',
    `the other nodes would refuse ${paths.certificate}: ${fault}`,
    `Make one: prestage-agent certificates --directory DIR --address ${address.text}`,
  );
}

/** What a registry serves, and what it runs from. */
export interface Serving {
  /** The directory that holds `docker`. */
  readonly tree: string;
  /** The directory on the partition that links in the tree lead into. */
  readonly blobs?: string | undefined;
  readonly image: string;
  /** The store that has the image; the node's storage where left out. */
  readonly imageStore?: string;
}

/**
 * Serves a registry tree, and records it.
 * @throws PrestageError ERR_REGISTRY_*, ERR_SETTINGS, ERR_CERTIFICATE
 */
export async function serveTree({ tree, blobs, image, imageStore }: Serving, context: RunContext): Promise<void> {
  const { host, settings, store, step, stop } = context;
  store.update({ phase: 'serving' });
  context.onEvent({ kind: 'phase', text: 'starting the registry' });
  if (settings.serve === 'cluster') await checkCertificate(context);
  const { address, how } = await startRegistry(host, {
    tree,
    blobs,
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
  const files = [conf, ...(await ownAuthority(context))];
  const changed = await putSystemFiles(host, files, step);
  await tellCrio(files, { isNews: changed.length > 0, context });
}

/** Says of which files CRI-O was told in this boot: a run may be killed between the two. */
const TOLD = '/run/prestage-agent/crio-told';

async function tellCrio(
  files: readonly SystemFile[],
  { isNews, context: { host, step } }: { readonly isNews: boolean; readonly context: RunContext },
): Promise<void> {
  const [told, wanted] = [hostPath(host, TOLD), digestOf(JSON.stringify(files))];
  if (!isNews && (await readFile(told, 'utf8').catch(() => undefined)) === wanted) return;
  await step('reload-crio', async () => {
    // To look for it is cheaper than to ask systemd, and in most runs it does not run yet.
    if (crioPid(host) !== undefined) await reloadCrio(host);
    await writeAtomic(told, wanted);
  });
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
