import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { howEnded, quote } from '../../host/exec.ts';
import type { Host } from '../../host/host.ts';
import { mountReadOnly, unmount } from '../../host/mounts.ts';
import { removeTree, temporaryDirectory } from '../../host/remove-tree.ts';
import { hexOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { listFaults } from '../../model/faults.ts';
import { STORE_PATH } from '../../model/places.ts';
import { inspectStorage, type StorageContents } from '../../storage/records.ts';
import { deepestOf, STORE_LAYERS } from './layer-limits.ts';
import type { NamedImage } from './source-image.ts';
import { storageConfOf } from './storage-conf.ts';

export interface ProofOptions {
  /** The squashfs. */
  readonly image: string;
  readonly images: readonly NamedImage[];
  /** GOARCH name of the images: a command is run only if this machine has the same. */
  readonly architecture: string;
  /** Directory of our own, made empty; an absolute path. */
  readonly work: string;
  readonly signal: AbortSignal;
}

/** Results of a proof, with what it could not show; everything else was shown. */
export interface Proof {
  /** Reference of the image in which a command ran; undefined if none did. */
  readonly ranIn?: string;
  /** Why no command ran. */
  readonly notRun?: string;
  /** Why the image with the most layers does not mount on this machine, although engines of other nodes may mount it. */
  readonly notMounted?: string;
}

/** As on a node: the main storage of an engine; and a folder for the engine's configuration. */
const MAIN_STORAGE = '/var/lib/containers/storage';
const CONF_PLACE = '/var/lib/prestage-proof';

/**
 * Runs a program in namespaces of its own, so that its processes and mounts vanish with it: the monitor of a container starts another podman when the
 * container has ended, which would otherwise write below `work` while that is removed. On a machine with hybrid cgroups, crun refuses the hierarchy
 * beside the old ones (cgroups(7)). Limits that root may not raise are requested as they are. Source: unshare(1).
 *
 * The store is at the same path as on a node, beside the main storage of a node: overlay's options hold the full path of each layer. Both are on a
 * file system in memory that covers /var/lib of this machine. It also hides the store's own path, so the store is the working directory (mount(8), -c).
 */
const ALONE = ['--pid', '--fork', '--kill-child', '--mount', '--mount-proc'];
const AS_ON_NODE = `
umount /sys/fs/cgroup/unified 2>/dev/null
conf=$1; shift
mount -t tmpfs -o mode=755 prestage-proof /var/lib &&
mkdir -p ${STORE_PATH} ${MAIN_STORAGE} ${CONF_PLACE} &&
printf %s "$conf" >${CONF_PLACE}/storage.conf &&
mount -c --bind . ${STORE_PATH} && cd / && exec "$@"`;
/** Makes and mounts a container without starting a program in it: the image may be for another processor. */
const MOUNT_ONE = 'name=$1; shift; id=$("$@" create --pull=never --network=none "$name" /bin/true) && "$@" mount "$id"';
const LIMITS = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024'];
/** Images in which a command is tried; some hold a single program and no shell. */
const RUN_TRIES = 10;
/** A container that does not start in this time says nothing about the store. */
const RUN_LIMIT_MS = 60_000;
/** podman(1) run: the command cannot be invoked, or is not there. */
const NO_COMMAND = new Set([126, 127]);
/** References that one podman inspects: far below the limit of a command line. */
const INSPECT_AT_ONCE = 200;

/** Where the store is mounted during its proof, below `work`; for podman it is bound to its path on a node. */
const MOUNT_POINT = 'store';

/** Unmounts what an interrupted build may have left mounted: nothing below a mount may be deleted. */
export async function reclaimProof(host: Host, work: string): Promise<void> {
  await unmount(host, join(work, MOUNT_POINT));
}

/**
 * Proves a store image as a node will use it: mounted read-only and named as an additional store of an empty one, podman lists every image and
 * resolves every reference, no record is damaged, every manifest has its digest, and a command runs in one of the images.
 * @throws PrestageError ERR_BUILD_PROOF with every fault, ERR_PARTITION_MOUNT
 */
export async function proveStore(host: Host, options: ProofOptions): Promise<Proof> {
  const { work, image, images } = options;
  await removeTree(work);
  await mkdir(work, { recursive: true });
  // podman refuses a runroot of more than 50 characters.
  await using directory = await temporaryDirectory('prestage-');
  const run = directory.path;
  await using store = await mountReadOnly(host, { device: image, fileSystem: 'squashfs', target: join(work, MOUNT_POINT) });
  const conf = storageConfOf({ graphroot: MAIN_STORAGE, runroot: run });
  const roots = ['--root', MAIN_STORAGE, '--runroot', run, '--tmpdir', `${CONF_PLACE}/tmp`];
  const driver = ['--storage-driver', 'overlay', '--storage-opt', `additionalimagestore=${STORE_PATH}`];
  const alone = async (argv: readonly string[], timeoutMs?: number) =>
    await host.exec('unshare', [...ALONE, 'sh', '-c', AS_ON_NODE, 'sh', conf, ...argv], {
      signal: options.signal,
      cwd: store.path,
      env: { CONTAINERS_STORAGE_CONF: `${CONF_PLACE}/storage.conf` },
      ...(timeoutMs !== undefined && { timeoutMs }),
    });
  const podman: Podman = async (args, timeoutMs) => await alone(['podman', ...roots, ...driver, ...args], timeoutMs);
  const mount = async (name: string) => await alone(['sh', '-c', MOUNT_ONE, 'sh', name, 'podman', ...roots, ...driver], RUN_LIMIT_MS);

  const found = await inspectStorage({ graphroot: store.path, runroot: run });
  const listed = await podman(['images', '--all', '--no-trunc', '--format', '{{.ID}}']);
  const faults: string[] = [
    ...storeFaults(images, found),
    ...(listed.exitCode === 0 ? findUnlisted(images, listed.stdout) : [`podman images ${howEnded(listed)}: ${quote(listed.stderr)}`]),
    ...(await findUnresolved(images, podman)),
  ];
  const deepest = faults.length > 0 ? NOT_TRIED : await proveDeepest(images, mount);
  faults.push(...deepest.faults);
  options.signal.throwIfAborted();
  if (faults.length > 0) {
    throw new PrestageError(
      'ERR_BUILD_PROOF',
      listFaults(`${image} does not contain exactly what was put into it`, faults),
      'Build again; if it fails again, pull the images again and report this as a bug',
    );
  }
  if (options.architecture !== host.architecture) {
    return { ...deepest.proof, notRun: `the images are for ${options.architecture}, but this machine is ${host.architecture}` };
  }
  return { ...deepest.proof, ...(await runOne(images, podman)) };
}

type Podman = (args: readonly string[], timeoutMs?: number) => ReturnType<Host['exec']>;

/** Images that are missing or damaged in the records of a store. Pure. */
export function storeFaults(images: readonly NamedImage[], found: StorageContents): readonly string[] {
  const byId = new Map(found.images.map((image) => [image.id, image]));
  return images.flatMap(({ reference, names, image }) => {
    const stored = byId.get(hexOf(image.config));
    if (stored === undefined) return [`${reference}: the store does not have the image ${hexOf(image.config)}`];
    const lacking = [...new Set([image.top.digest, image.manifest])].filter((digest) => !stored.digests.includes(digest));
    return [
      ...stored.damage.map((what) => `${reference}: ${what}`),
      ...lacking.map((digest) => `${reference}: the store does not have the manifest ${digest}`),
      ...names.filter((name) => !stored.names.includes(name)).map((name) => `${reference}: it does not have the name ${name}`),
    ];
  });
}

function findUnlisted(images: readonly NamedImage[], stdout: string): readonly string[] {
  const ids = new Set(stdout.split('\n').map((line) => line.trim().replace(/^sha256:/, '')));
  return images.filter(({ image }) => !ids.has(hexOf(image.config))).map(({ reference }) => `${reference}: podman images does not list it`);
}

/** Names that podman does not resolve to their image. */
async function findUnresolved(images: readonly NamedImage[], podman: Podman): Promise<readonly string[]> {
  const wanted = images.flatMap(({ names, image }) => names.map((name) => ({ name, id: hexOf(image.config) })));
  const faults: string[] = [];
  for (let start = 0; start < wanted.length; start += INSPECT_AT_ONCE) {
    const some = wanted.slice(start, start + INSPECT_AT_ONCE);
    const result = await podman(['image', 'inspect', '--format', '{{.Id}}', ...some.map(({ name }) => name)]);
    if (result.exitCode !== 0) {
      faults.push(`podman image inspect ${howEnded(result)}: ${quote(result.stderr)}`);
      continue;
    }
    const ids = result.stdout.trim().split('\n');
    faults.push(
      ...some.flatMap(({ name, id }, index) => (ids[index] === id ? [] : [`${name} resolves to ${ids[index] ?? 'nothing'}, not to ${id}`])),
    );
  }
  return faults;
}

interface DeepestProof {
  readonly faults: readonly string[];
  readonly proof: Pick<Proof, 'notMounted'>;
}

const NOT_TRIED: DeepestProof = { faults: [], proof: {} };

/**
 * Mounts the image with the most layers. If it does not mount here and has too many layers for the oldest engines, mounts the deepest image that must
 * mount everywhere.
 * @param mount lets podman make a container of an image and mount it
 */
async function proveDeepest(images: readonly NamedImage[], mount: (name: string) => ReturnType<Host['exec']>): Promise<DeepestProof> {
  const failure = async (named: NamedImage | undefined): Promise<string | undefined> => {
    if (named === undefined) return undefined;
    const { exitCode, stderr } = await mount(named.names[0] ?? named.reference);
    if (exitCode === 0) return undefined;
    // The options name every layer.
    const reason = quote(stderr.replaceAll(/lowerdir=[^\s"]*/g, 'lowerdir=…'));
    return `${named.reference} with ${named.image.layers.length} layers does not mount: ${reason}`;
  };
  const deepest = deepestOf(images);
  const first = await failure(deepest);
  if (first === undefined || deepest === undefined) return NOT_TRIED;
  if (deepest.image.layers.length <= STORE_LAYERS) return { faults: [first], proof: {} };
  const second = await failure(deepestOf(images.filter(({ image }) => image.layers.length <= STORE_LAYERS)));
  return { faults: second === undefined ? [] : [second], proof: { notMounted: first } };
}

/** Runs a shell that does nothing: it needs the loader, a library and the program from the layers. */
async function runOne(images: readonly NamedImage[], podman: Podman): Promise<Proof> {
  for (const { names } of images.slice(0, RUN_TRIES)) {
    const [name = ''] = names;
    const run = ['run', '--rm', '--pull=never', '--network=host', ...LIMITS, '--entrypoint', '/bin/sh', name, '-c', ':'];
    const result = await podman(run, RUN_LIMIT_MS);
    if (result.exitCode === 0) return { ranIn: name };
    if (!NO_COMMAND.has(result.exitCode)) return { notRun: `podman run ${howEnded(result)}: ${quote(result.stderr)}` };
  }
  return { notRun: `none of the first ${Math.min(RUN_TRIES, images.length)} images has /bin/sh` };
}
