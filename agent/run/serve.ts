import { readFile } from 'node:fs/promises';
import { readCertificates, readPrivateKey, serverFault } from '../certificates/pem.ts';
import { readServerAddress } from '../certificates/server-address.ts';
import { hostPath } from '../host/host.ts';
import { beginPhase, type RunContext } from '../load/context.ts';
import { PrestageError } from '../model/errors.ts';
import { startRegistry } from '../registry/serve/service.ts';
import { removeMirrors } from './mirrors.ts';
import { listenAddress } from './registry-address.ts';

/**
 * Refuses a certificate that the other nodes would refuse. Does not check whether it has expired, because the clock of a node can be wrong at boot.
 * Files that cannot be read are reported when the registry is started.
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
    : `${paths.key} is the key of another certificate`;
  if (fault === undefined) return;
  throw new PrestageError(
    'ERR_CERTIFICATE',
    `the other nodes would refuse ${paths.certificate}: ${fault}`,
    `Make a new one: prestage-agent certificates --directory DIR --address ${address.text}`,
  );
}

/** What a registry serves, and what it runs from. */
export interface Serving {
  /** The directory that holds `docker`. */
  readonly tree: string;
  /** The directory on the partition that links in the tree lead into. */
  readonly blobs?: string | undefined;
  readonly image: string;
  /** The store that has the image; the node's storage if left out. */
  readonly imageStore?: string;
}

/**
 * Serves a registry tree, and records it.
 * @throws PrestageError ERR_REGISTRY_*, ERR_SETTINGS, ERR_CERTIFICATE
 */
export async function serveTree({ tree, blobs, image, imageStore }: Serving, context: RunContext): Promise<void> {
  const { host, settings, record, act, stop } = context;
  beginPhase(context, 'serving', 'starting the registry');
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
    onReplace: async () => await removeMirrors(context),
    act,
    signal: stop,
  });
  record.update({ registry: { address, how, tree, image, ...(blobs !== undefined && { blobs }) } });
}
