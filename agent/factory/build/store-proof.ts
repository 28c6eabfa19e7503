import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inspectStorage, type StorageContents } from '../../extract/storage.ts';
import { quote } from '../../host/exec.ts';
import type { Host } from '../../host/host.ts';
import { mountReadOnly, unmount } from '../../host/mounts.ts';
import { removeTree, temporaryDirectory } from '../../host/remove-tree.ts';
import { hexOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { listFaults } from '../../model/faults.ts';
import type { NamedImage } from './source-image.ts';
import { storageConfOf } from './storage-conf.ts';

export interface ProofOptions {
  /** The squashfs. */
  readonly image: string;
  readonly images: readonly NamedImage[];
  /** GOARCH name of the images: a command runs only on a machine of the same. */
  readonly architecture: string;
  /** Directory of our own, made empty; an absolute path. */
  readonly work: string;
  readonly signal: AbortSignal;
}

/** What a proof could not show; everything else was shown. */
export interface Proof {
  /** Reference of the image in which a command ran; undefined where none did. */
  readonly ranIn?: string;
  /** Why no command ran. */
  readonly notRun?: string;
}

/**
 * Own processes and mounts vanish with the program: the monitor of a container starts another podman when the container has ended, which would still
 * write below `work` when that is removed. A machine with hybrid cgroups has a hierarchy beside the old ones that crun refuses (cgroups(7)); limits
 * that root may not raise are asked for as they are. Source: unshare(1).
 */
const ALONE = ['--pid', '--fork', '--kill-child', '--mount', '--mount-proc'];
const WITHOUT_HYBRID = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"';
const LIMITS = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024'];
/** Images in which a command is tried; some hold a single program and no shell. */
const RUN_TRIES = 10;
/** A container that does not start in this time says nothing about the store. */
const RUN_LIMIT_MS = 60_000;
/** podman(1) run: the command cannot be invoked, or is not there. */
const NO_COMMAND = new Set([126, 127]);
/** References that one podman inspects: far below the limit of a command line. */
const INSPECT_AT_ONCE = 200;

/** Where the store is mounted while it is proven, below `work`. */
const MOUNT_POINT = 'store';

/** Unmounts what an ended build may have left mounted: nothing below a mount may be deleted. */
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
  const storageConf = join(work, 'storage.conf');
  // Not below `work`: podman refuses a runroot of more than 50 characters.
  const graph = join(work, 'graph');
  await using directory = await temporaryDirectory('prestage-');
  const run = directory.path;
  await writeFile(storageConf, storageConfOf({ graphroot: graph, runroot: run }));
  await using store = await mountReadOnly(host, { device: image, fileSystem: 'squashfs', target: join(work, MOUNT_POINT) });
  const roots = ['--root', graph, '--runroot', run, '--tmpdir', join(work, 'tmp')];
  const driver = ['--storage-driver', 'overlay', '--storage-opt', `additionalimagestore=${store.path}`];
  const podman = async (args: readonly string[], timeoutMs?: number) =>
    await host.exec('unshare', [...ALONE, 'sh', '-c', WITHOUT_HYBRID, 'sh', 'podman', ...roots, ...driver, ...args], {
      signal: options.signal,
      env: { CONTAINERS_STORAGE_CONF: storageConf },
      ...(timeoutMs !== undefined && { timeoutMs }),
    });

  const found = await inspectStorage({ graphroot: store.path, runroot: run });
  const listed = await podman(['images', '--all', '--no-trunc', '--format', '{{.ID}}']);
  const faults = [
    ...storeFaults(images, found),
    ...(listed.exitCode === 0 ? unlisted(images, listed.stdout) : [`podman images ended with ${listed.exitCode}: ${quote(listed.stderr)}`]),
    ...(await unresolved(images, podman)),
  ];
  options.signal.throwIfAborted();
  if (faults.length > 0) {
    throw new PrestageError(
      'ERR_BUILD_PROOF',
      listFaults(`${image} does not show what was put into it`, faults),
      'Build again; where it fails again, pull the images again and report this',
    );
  }
  if (options.architecture !== host.architecture) {
    return { notRun: `the images are for ${options.architecture} and this machine is ${host.architecture}` };
  }
  return await runOne(images, podman);
}

type Podman = (args: readonly string[], timeoutMs?: number) => ReturnType<Host['exec']>;

/** What the records of a store lack of images, or have damaged. Pure. */
export function storeFaults(images: readonly NamedImage[], found: StorageContents): readonly string[] {
  const byId = new Map(found.images.map((image) => [image.id, image]));
  return images.flatMap(({ reference, names, image }) => {
    const stored = byId.get(hexOf(image.config));
    if (stored === undefined) return [`${reference}: no image ${hexOf(image.config)} is in the store`];
    const lacking = [...new Set([image.top.digest, image.manifest])].filter((digest) => !stored.digests.includes(digest));
    return [
      ...stored.damage.map((what) => `${reference}: ${what}`),
      ...lacking.map((digest) => `${reference}: the store does not have the manifest ${digest}`),
      ...names.filter((name) => !stored.names.includes(name)).map((name) => `${reference}: it does not go by ${name}`),
    ];
  });
}

function unlisted(images: readonly NamedImage[], stdout: string): readonly string[] {
  const ids = new Set(stdout.split('\n').map((line) => line.trim().replace(/^sha256:/, '')));
  return images.filter(({ image }) => !ids.has(hexOf(image.config))).map(({ reference }) => `${reference}: podman images does not list it`);
}

/** Names that do not lead podman to their image. */
async function unresolved(images: readonly NamedImage[], podman: Podman): Promise<readonly string[]> {
  const wanted = images.flatMap(({ names, image }) => names.map((name) => ({ name, id: hexOf(image.config) })));
  const faults: string[] = [];
  for (let start = 0; start < wanted.length; start += INSPECT_AT_ONCE) {
    const some = wanted.slice(start, start + INSPECT_AT_ONCE);
    const result = await podman(['image', 'inspect', '--format', '{{.Id}}', ...some.map(({ name }) => name)]);
    if (result.exitCode !== 0) {
      faults.push(`podman image inspect ended with ${result.exitCode}: ${quote(result.stderr)}`);
      continue;
    }
    const ids = result.stdout.trim().split('\n');
    faults.push(
      ...some.flatMap(({ name, id }, index) => (ids[index] === id ? [] : [`${name} leads to ${ids[index] ?? 'nothing'}, not to ${id}`])),
    );
  }
  return faults;
}

/** A shell that does nothing: it needs the loader, a library and the program out of the layers. */
async function runOne(images: readonly NamedImage[], podman: Podman): Promise<Proof> {
  for (const { names } of images.slice(0, RUN_TRIES)) {
    const [name = ''] = names;
    const run = ['run', '--rm', '--pull=never', '--network=host', ...LIMITS, '--entrypoint', '/bin/sh', name, '-c', ':'];
    const result = await podman(run, RUN_LIMIT_MS);
    if (result.exitCode === 0) return { ranIn: name };
    if (!NO_COMMAND.has(result.exitCode)) return { notRun: `podman run ended with ${result.exitCode}: ${quote(result.stderr)}` };
  }
  return { notRun: `none of the first ${Math.min(RUN_TRIES, images.length)} images has /bin/sh` };
}
