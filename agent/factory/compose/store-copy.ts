import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { linkDirLayout } from '../../extract/oci-layout.ts';
import { howEnded, quote } from '../../host/exec.ts';
import type { Host } from '../../host/host.ts';
import { removeTree } from '../../host/remove-tree.ts';
import { PrestageError } from '../../model/errors.ts';
import { writeDirSignatures } from '../../signatures/dir-form.ts';
import type { StorageLocation } from '../../storage/records.ts';
import { type CopyStep, planCopies } from './copy-plan.ts';
import type { NamedImage } from './source-image.ts';
import { signaturesForStore } from './source-signatures.ts';
import { storageConfOf } from './storage-conf.ts';

export interface ComposeOptions {
  /** The OCI image layout that has the blobs. */
  readonly layout: string;
  readonly images: readonly NamedImage[];
  /** GOARCH name. */
  readonly architecture: string;
  /** Directory of our own, made empty; an absolute path. */
  readonly work: string;
  /** Copies at a time. */
  readonly jobs: number;
  readonly signal: AbortSignal;
  readonly onCopied: (done: number, of: number) => void;
}

/**
 * Runs a program in a mount namespace of its own, so that mounts that the overlay driver leaves behind vanish with it, and with a blob cache of
 * its own: blobs that this machine's engines have seen before must not influence the copy. The script is constant.
 */
const ALONE = 'mkdir -p /var/lib/containers/cache && mount --bind "$0" /var/lib/containers/cache && exec "$@"';

/**
 * Composes a containers-storage of images with skopeo(1), each under all its names. It uses neither storage.conf nor policy nor storage of this
 * machine: the digests of the layout determine the bytes.
 * @throws PrestageError ERR_BUILD_STORE
 */
export async function composeStore(host: Host, options: ComposeOptions): Promise<StorageLocation> {
  const { work } = options;
  const location = { graphroot: join(work, 'graph'), runroot: join(work, 'run') };
  await removeTree(work);
  for (const name of ['cache', 'tmp', 'dir']) await mkdir(join(work, name), { recursive: true });
  await writeFile(join(work, 'storage.conf'), storageConfOf(location));
  const steps = planCopies(options.images);
  let done = 0;
  await runInOrder(steps, options.jobs, async (step, index) => {
    options.signal.throwIfAborted();
    await copyImage(host, step, index, { ...options, location });
    options.onCopied(++done, steps.length);
  });
  return location;
}

async function copyImage(
  host: Host,
  { named }: CopyStep,
  index: number,
  options: ComposeOptions & { readonly location: StorageLocation },
): Promise<void> {
  const { work, location, architecture, signal } = options;
  const directory = join(work, 'dir', String(index));
  await linkDirLayout(options.layout, named.image.top.digest, directory);
  await writeDirSignatures(directory, named.image.top.digest, await signaturesForStore(options.layout, named));
  for (const name of named.names) {
    const destination = `containers-storage:[overlay@${location.graphroot}+${location.runroot}]${name}`;
    const platform = [
      '--override-os',
      'linux',
      '--override-arch',
      architecture,
      ...(architecture === 'arm64' ? ['--override-variant', 'v8'] : []),
    ];
    // The flag, not TMPDIR: a copy into containers-storage ignores TMPDIR and uses /var/tmp (skopeo 1.9.3).
    const temporary = ['--tmpdir', join(work, 'tmp')];
    const skopeo = [
      'skopeo',
      '--insecure-policy',
      ...temporary,
      ...platform,
      'copy',
      '--quiet',
      '--preserve-digests',
      `dir:${directory}`,
      destination,
    ];
    const result = await host.exec('unshare', ['--mount', 'sh', '-c', ALONE, join(work, 'cache'), ...skopeo], {
      signal,
      env: { CONTAINERS_STORAGE_CONF: join(work, 'storage.conf') },
    });
    signal.throwIfAborted();
    if (result.exitCode === 0) continue;
    throw new PrestageError(
      'ERR_BUILD_STORE',
      `${name} cannot be copied into a store: skopeo ${howEnded(result)}: ${quote(result.stderr)}`,
      /no space left/i.test(result.stderr)
        ? 'Free space, or give another work directory with --work DIR'
        : 'Build on a machine where root can mount overlay; if it fails again, pull the image again',
    );
  }
  await removeTree(directory);
}

/** Runs steps in their order, several at a time, each after those that it waits for. After a fault it starts no further step and waits for running ones. */
async function runInOrder(steps: readonly CopyStep[], jobs: number, run: (step: CopyStep, index: number) => Promise<void>): Promise<void> {
  const done = new Set<number>();
  const active = new Map<number, Promise<void>>();
  const faults: unknown[] = [];
  let waiting = steps.map((step, index) => ({ step, index }));
  while (waiting.length + active.size > 0) {
    for (const { step, index } of waiting) {
      if (active.size >= jobs || faults.length > 0) break;
      if (!step.after.every((earlier) => done.has(earlier))) continue;
      const finish = (): void => {
        done.add(index);
        active.delete(index);
      };
      const work = run(step, index).then(finish, (error: unknown) => {
        faults.push(error);
        active.delete(index);
      });
      active.set(index, work);
    }
    waiting = waiting.filter(({ index }) => !active.has(index) && !done.has(index));
    if (active.size === 0) break;
    await Promise.race(active.values());
  }
  if (faults.length > 0) throw faults[0];
}
