import { cp, mkdir, mkdtemp, open, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { createArchivePool } from '../../agent/extract/pool.ts';
import { plainAct } from '../../agent/host/acts.ts';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { type Host, hostPath } from '../../agent/host/host.ts';
import { linuxHost } from '../../agent/host/linux.ts';
import { BUNDLE_FILE, parseBundle } from '../../agent/model/bundle.ts';
import { STORE_PATH } from '../../agent/model/places.ts';
import { type OpenedStore, type OpenStoreRequest, openStore } from '../../agent/mount/open-store.ts';
import type { StoreImage } from '../../agent/mount/store-image.ts';
import { mountPointsBelow } from './agent.ts';
import { listOf, runBuild } from './build.ts';
import { writeOciLayout } from './images.ts';
import { makeTinyBundle } from './tiny-bundle.ts';

/** A bundle with one store, for the installed stage. */
export interface StoreBundle {
  readonly directory: string;
  readonly image: StoreImage;
}

/** Builds a bundle with a store of some tiny images below a directory. Takes some seconds. */
export async function makeStoreBundle(work: string, count: number): Promise<StoreBundle> {
  const { store, images } = await makeTinyBundle(work, count);
  const pulled = join(work, 'pulled');
  await writeOciLayout(store, images, pulled);
  const directory = join(work, 'built');
  await writeFile(join(pulled, 'ocp-images.txt'), listOf(images));
  await runBuild({ from: pulled, to: directory, payloads: ['store'] });
  return { directory, image: await storeImageOf(directory) };
}

/** A copy of the bundle that a test may change. */
export async function copyStoreBundle(bundle: StoreBundle, directory: string): Promise<StoreBundle> {
  await rm(directory, { recursive: true, force: true });
  await cp(bundle.directory, directory, { recursive: true });
  const moved = (path: string): string => join(directory, relative(bundle.directory, path));
  return { directory, image: { ...bundle.image, path: moved(bundle.image.path), hashTree: moved(bundle.image.hashTree) } };
}

export async function storeImageOf(directory: string): Promise<StoreImage> {
  const bundle = parseBundle(await readFile(join(directory, BUNDLE_FILE), 'utf8'), directory);
  for (const payload of bundle.payloads) {
    const file = payload.kind === 'store' ? bundle.files.find(({ path }) => path === payload.image) : undefined;
    if (payload.kind !== 'store' || file === undefined) continue;
    const { hashTree, rootHash } = payload.verity;
    const { sizeBytes, sha256 } = file;
    const hashTreeSizeBytes = bundle.files.find(({ path }) => path === hashTree)?.sizeBytes ?? 0;
    return {
      path: join(directory, payload.image),
      sizeBytes,
      sha256,
      pieces: payload.pieces,
      hashTree: join(directory, hashTree),
      hashTreeSizeBytes,
      rootHash,
    };
  }
  throw new Error(`${directory} has no store`);
}

/** A directory that stands for `/`, in which stores are opened. The lease unmounts what is left. */
export interface StoreRoot extends AsyncDisposable {
  readonly host: Host;
  readonly messages: readonly string[];
  path(absolute: string): string;
  /** Opens the store for the installed stage, where nothing else is said. @param request.host in the place of the root's own */
  open(bundle: StoreBundle, request?: Partial<OpenStoreRequest> & { readonly host?: Host }): Promise<OpenedStore>;
  /** How many images podman lists with STORE_PATH as additional store of an empty storage. */
  listed(): Promise<number>;
  /** Mount points of ours as absolute paths below the root. */
  mounts(): Promise<readonly string[]>;
}

export async function makeStoreRoot(work: string): Promise<StoreRoot> {
  const root = await mkdtemp(join(work, 'root-'));
  const messages: string[] = [];
  const host = linuxHost({ root, env: {}, log: (severity, message) => messages.push(`${severity}: ${message}`) });
  const pool = createArchivePool({ size: 1, log: host.log });
  const path = (absolute: string): string => hostPath(host, absolute);
  return {
    host,
    messages,
    path,
    open: async ({ image, directory }, { host: other = host, ...request } = {}) =>
      await openStore(other, {
        image,
        bundleDirectory: directory,
        stage: 'installed',
        trust: 'auto',
        placement: 'auto',
        act: plainAct,
        signal: new AbortController().signal,
        pool,
        ...request,
      }),
    listed: async () => await countImages(path(STORE_PATH)),
    mounts: async () => (await mountPointsBelow(root)).map((point) => point.slice(root.length)).toSorted(),
    [Symbol.asyncDispose]: async () => {
      await pool[Symbol.asyncDispose]();
      for (const point of (await mountPointsBelow(root)).toReversed()) await output(execOnLinux, 'umount', ['--lazy', point]);
      await rm(root, { recursive: true });
    },
  };
}

/** podman(1) refuses a runroot of more than 50 characters, hence the place. */
async function countImages(store: string): Promise<number> {
  const storage = await mkdtemp('/tmp/list-');
  try {
    const roots = ['--root', join(storage, 'g'), '--runroot', join(storage, 'r'), '--storage-driver', 'overlay'];
    const listed = await output(execOnLinux, 'podman', [...roots, '--storage-opt', `additionalimagestore=${store}`, 'images', '-aq']);
    return listed.split('\n').filter((line) => line !== '').length;
  } finally {
    await execOnLinux('umount', [join(storage, 'g/overlay')]);
    await rm(storage, { recursive: true });
  }
}

/** Options of the mount itself that restrict it, in order. */
export async function restrictionsAt(path: string): Promise<readonly string[]> {
  const options = (await output(execOnLinux, 'findmnt', ['-n', '-o', 'VFS-OPTIONS', path])).trim().split(',');
  return options.filter((option) => ['ro', 'rw', 'nosuid', 'nodev', 'noexec'].includes(option)).toSorted();
}

/** Loop devices of files below a directory. */
export async function loopsBelow(directory: string): Promise<readonly string[]> {
  const listed = await output(execOnLinux, 'losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE']);
  return listed.split('\n').filter((line) => line.includes(`${directory}/`));
}

/** Turns a bit of a byte in the middle of a file, or so many from its end. */
export async function flipByte(path: string, fromEnd?: number): Promise<void> {
  await using file = await open(path, 'r+');
  const { size } = await file.stat();
  const at = fromEnd === undefined ? Math.floor(size / 2) : size - fromEnd;
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
  await file.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), 0, 1, at);
}

export async function replaceByDirectory(path: string): Promise<void> {
  await rm(path);
  await mkdir(path);
}

export async function replaceByLink(path: string): Promise<void> {
  await rm(path);
  await symlink('/etc/passwd', path);
}

/** Sizes and times of change of all below a directory: whoever writes there changes it. */
export async function treeStamp(directory: string): Promise<string> {
  return await output(execOnLinux, 'find', [directory, '-printf', '%P %y %s %C@\n']);
}

export async function namesIn(directory: string): Promise<readonly string[]> {
  const names: readonly string[] = await readdir(directory).catch(() => []);
  return names.toSorted();
}
