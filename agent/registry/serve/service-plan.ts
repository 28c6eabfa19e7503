import { join } from 'node:path';
import type { Act } from '../../host/acts.ts';
import { digestOf } from '../../model/digest.ts';
import { formatAddress, listenHost } from './service-address.ts';
import { IN_CONTAINER, keyInContainer, registryConfig } from './service-config.ts';

/** The container, and the systemd unit without its suffix. */
export const REGISTRY_NAME = 'prestage-registry';
/** How distribution is started if no command is given: like the registry component of a release. */
const DEFAULT_COMMAND: readonly string[] = ['/usr/bin/distribution', 'serve', IN_CONTAINER.config];

export interface RegistryRequest {
  /** The top of the tree, the directory that holds `docker`; an absolute path. */
  readonly tree: string;
  /** A directory that links in the tree lead into: it has the same path in the container. */
  readonly blobs?: string | undefined;
  /** The image to run, by a reference that podman finds. */
  readonly image: string;
  /** Program in the image and its arguments; DEFAULT_COMMAND if left out. */
  readonly command?: readonly string[];
  /** IP address or host name that clients use; a loopback address is reached only by this node. */
  readonly address: string;
  readonly port: number;
  /** PEM files. Needed for every address that is not on loopback. */
  readonly tls?: { readonly certificate: string; readonly key: string };
  /**
   * A store that holds the image, such as the mounted store image. The container then has a storage of its own in memory on top of it: it leaves nothing
   * in the node's storage, and engines need not be set up for it. The node's own storage if left out.
   */
  readonly imageStore?: string;
  /** The storage.conf for podman, if it is not the usual one. */
  readonly storageConf?: string;
  /** Called before a registry of ours that was started in this boot is stopped to make room for this one. */
  readonly onReplace?: () => Promise<void>;
  readonly act: Act;
  readonly signal: AbortSignal;
}

/** Everything that a registry is started from. */
export interface RegistryPlan {
  /** `host:port` as clients write it. */
  readonly address: string;
  readonly image: string;
  readonly command: readonly string[];
  /** The configuration of distribution. */
  readonly config: string;
  /** Options of podman itself. */
  readonly global: readonly string[];
  /** Options of `podman run` that every way of starting it shares. */
  readonly options: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Identifies this plan and the current directories: a running registry with the same identity can be kept. */
  readonly identity: string;
}

export interface PlanFacts {
  /** Directory for configuration, certificates and the container's own storage. */
  readonly directory: string;
  /** Distinguishes the directories that it reads from others at the same path. */
  readonly treeIdentity: string;
  readonly storeIdentity: string;
  /** Whether the node has this runtime; podman knows it by that name. */
  readonly hasCrun: boolean;
  /** The certificate and the key, PEM. */
  readonly certificate: string;
  readonly key: string;
}

/** Files of a registry below its directory. */
export const FILES = {
  config: 'config.yaml',
  certificate: 'tls.crt',
  key: 'tls.key',
  record: 'registry.json',
  pid: 'pid',
  log: 'registry.log',
  storage: 'storage',
} as const;

/** How the registry of a request is started. Pure. */
export function planRegistry(request: RegistryRequest, facts: PlanFacts): RegistryPlan {
  const { address, port, tls, image, command = DEFAULT_COMMAND } = request;
  const config = registryConfig({ listen: formatAddress(listenHost(address) ?? '', port), hasTls: tls !== undefined });
  const plan = {
    address: formatAddress(address, port),
    image,
    command,
    config,
    global: globalOptions(request, facts),
    options: runOptions(request, facts),
    env: request.storageConf === undefined ? {} : { CONTAINERS_STORAGE_CONF: request.storageConf },
  };
  const { treeIdentity, storeIdentity, certificate, key } = facts;
  return { ...plan, identity: digestOf(JSON.stringify([plan, treeIdentity, storeIdentity, certificate, digestOf(key)])) };
}

/** The options for a storage of its own. podman refuses a runroot of more than 50 characters. Source: podman(1). */
function globalOptions({ imageStore }: RegistryRequest, { directory, hasCrun }: PlanFacts): readonly string[] {
  const runtime = hasCrun ? ['--runtime', 'crun'] : [];
  if (imageStore === undefined) return runtime;
  const roots = ['--root', join(directory, FILES.storage), '--runroot', join(directory, 'run'), '--tmpdir', join(directory, 'tmp')];
  return [...runtime, ...roots, '--storage-driver', 'overlay', '--storage-opt', `additionalimagestore=${imageStore}`];
}

/**
 * The container: everything that it reads is mounted read-only, and it may only read files of any owner. SELinux is off for it, because neither squashfs
 * nor the data partition can be labelled. It gets no proxy settings: it sends no requests, and proxy addresses can contain a password. Tracing is off,
 * because distribution 3 otherwise looks for a collector. With crun the container stays in the control group that it is started in, which is the unit's
 * own, and asks for no controllers; runc cannot do that.
 * Source: podman-run(1).
 */
function runOptions(
  { tree, blobs, port, tls, command = DEFAULT_COMMAND }: RegistryRequest,
  { directory, hasCrun, key }: PlanFacts,
): readonly string[] {
  const [program = ''] = command;
  return [
    ...['--name', REGISTRY_NAME, '--network=host', '--pull=never', '--read-only', '--user=0'],
    ...['--cap-drop=all', '--cap-add=DAC_OVERRIDE', ...(port < 1024 ? ['--cap-add=NET_BIND_SERVICE'] : [])],
    ...['--security-opt=label=disable', '--security-opt=no-new-privileges', '--http-proxy=false', '--env=OTEL_TRACES_EXPORTER=none'],
    ...[`--cgroups=${hasCrun ? 'disabled' : 'no-conmon'}`, `--pidfile=${join(directory, FILES.pid)}`],
    ...[...readOnlyMount(tree, IN_CONTAINER.tree), ...readOnlyMount(join(directory, FILES.config), IN_CONTAINER.config)],
    ...(blobs === undefined ? [] : readOnlyMount(blobs, blobs)),
    ...(tls === undefined
      ? []
      : [
          ...readOnlyMount(join(directory, FILES.certificate), IN_CONTAINER.certificate),
          ...readOnlyMount(join(directory, FILES.key), keyInContainer(key)),
          `--env=REGISTRY_HTTP_TLS_KEY=${keyInContainer(key)}`,
        ]),
    ...['--entrypoint', program],
  ];
}

/** The value is one record of CSV (RFC 4180), so that paths may have commas and colons. */
function readOnlyMount(source: string, destination: string): readonly string[] {
  const fields = [`source=${source}`, `destination=${destination}`].map((field) =>
    /[",]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field,
  );
  return ['--mount', ['type=bind', ...fields, 'ro'].join(',')];
}
