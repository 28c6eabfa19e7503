import { readBundle } from '../bundle/read-bundle.ts';
import { pemOf } from '../certificates/pem.ts';
import { readServerEndpoint } from '../certificates/server-address.ts';
import { DROP_IN_PATH, ofIgnition, renderDropIn } from '../engine/registries-drop-in.ts';
import { parseRegistries } from '../engine/registries-file.ts';
import { mirrorSources } from '../engine/registries-sources.ts';
import { emptyView, mergeRegistries, type RegistriesView } from '../engine/registries-view.ts';
import { bundleImages } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { listFaults, quoteInput } from '../model/faults.ts';
import { settingTable } from '../model/setting-table.ts';
import type { Stage } from '../model/stage.ts';
import { clientRegistriesD } from './client-registries-d.ts';
import { endWarnings, readAuthorities } from './cluster-server.ts';
import type { IgnitionConfig, IgnitionSpec } from './config.ts';
import { ownFile, readNamedFile } from './own-file.ts';

/** Input for nodes that pull from others. */
export interface ClientsRequest {
  /** `HOST:PORT` of each server, or `HOST` for the default port, in the order in which nodes ask them. */
  readonly mirrors: readonly string[];
  /** File with the CA of the servers. */
  readonly ca: string;
  /** Directory of the bundle whose images the servers serve. */
  readonly bundle: string;
  /** The registries.conf of the nodes; its mirrors stay in use. */
  readonly registries?: string;
}

export interface ClusterClients {
  readonly config: IgnitionConfig;
  readonly warnings: readonly string[];
}

/** Contains a directory `HOST:PORT` for each registry; every `*.crt` in it is a trusted CA. Source: containers-certs.d(5). */
const CERTS_DIRECTORY = '/etc/containers/certs.d';
/** Not `ca.crt`, which may belong to others. By this name, a later rendering recognizes its own file. */
const CA_NAME = 'prestage-ca.crt';

/**
 * Renders the override for a node that pulls from others: mirror entries, the places of signatures and the CA. Nothing runs on the node.
 * @param context.existing the override that this is merged into, if there is one
 * @throws PrestageError ERR_USAGE for mirrors and files that cannot be used, ERR_CERTIFICATE, ERR_BUNDLE…, ERR_PAYLOAD_MISSING, ERR_REGISTRIES
 */
export async function readClusterClients(
  request: ClientsRequest,
  context: { readonly stage: Stage; readonly spec: IgnitionSpec; readonly now: Date; readonly existing: IgnitionConfig | undefined },
): Promise<ClusterClients> {
  const mirrors = readMirrors(request.mirrors);
  const { bundle } = await readBundle(request.bundle);
  const images = bundleImages(bundle, context.stage, request.bundle);
  const names = images.flatMap((image) => image.names);
  const isSigned = images.some(({ signatures = [] }) => signatures.some(({ kind }) => kind === 'sigstore'));
  const places = isSigned ? clientRegistriesD(mirrors, context.existing) : { files: [], warnings: [] };
  const caText = await readNamedFile({ path: request.ca, flag: '--ca', what: 'the CA', kind: 'certificate' });
  const authorities = readAuthorities(caText, request.ca, context.now);
  const view = await viewOf(request.registries);
  const sources = mirrorSources(names, mirrors);
  const { text, notices } = renderDropIn(view, { sources, insecure: false, block: false }, 'per-mirror');
  const files = [
    ownFile(DROP_IN_PATH, ofIgnition(text)),
    ...places.files,
    ...mirrors.map((mirror) => ownFile(`${CERTS_DIRECTORY}/${mirror}/${CA_NAME}`, pemOf(authorities))),
  ];
  return {
    config: { ignition: { version: context.spec }, storage: { files } },
    warnings: [...(mirrors.length === 1 ? [SINGLE] : []), ...endWarnings(authorities, context.now), ...notices, ...places.warnings],
  };
}

const SINGLE = 'there is only one mirror: if its node is down, images come from their source registries; add a second --mirror';

function readMirrors(texts: readonly string[]): readonly string[] {
  const read = texts.map((text) => readServerEndpoint(text, settingTable['registry-port'].byDefault));
  const mirrors = read.flatMap((mirror) => ('fault' in mirror ? [] : [mirror.text]));
  const twice = mirrors.filter((mirror, index) => mirrors.indexOf(mirror) !== index);
  const faults = [
    ...read.flatMap((mirror) => ('fault' in mirror ? [mirror.fault] : [])),
    ...twice.map((mirror) => `${quoteInput(mirror)} is given twice`),
  ];
  if (faults.length === 0) return mirrors;
  throw new PrestageError(
    'ERR_USAGE',
    listFaults('nodes cannot pull from these mirrors', faults),
    `Set each --mirror to HOST:PORT, the address and the port of a node that serves the cluster; without a port it is ${settingTable['registry-port'].byDefault}`,
  );
}

async function viewOf(path: string | undefined): Promise<RegistriesView> {
  if (path === undefined) return emptyView;
  const text = await readNamedFile({ path, flag: '--registries', what: 'the configuration', kind: 'registries.conf' });
  return mergeRegistries([parseRegistries(text, path)]);
}
