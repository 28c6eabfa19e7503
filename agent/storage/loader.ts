import { type Exec, type ExecResult, howEnded, quote } from '../host/exec.ts';
import { holdingShared } from '../host/lock.ts';
import { PrestageError } from '../model/errors.ts';
import type { StorageLocation, StoredImage } from './records.ts';

/** Loads images into one containers-storage with skopeo, and removes them with podman. */
export interface Loader {
  /** Copies from a skopeo source (`dir:PATH`, `oci:PATH:NAME`) into the storage under one full reference. */
  load(source: string, reference: string): Promise<void>;
  /** Removes a damaged image by its names; fails if a container uses it. */
  remove(image: StoredImage): Promise<void>;
}

export interface LoaderOptions {
  readonly exec: Exec;
  readonly location: StorageLocation;
  /** Directory for skopeo's temporary copies of blobs; the caller empties it. */
  readonly temporaryDirectory: string;
  /** Lock that skopeo holds shared while it writes, so that a later run can wait for the skopeo processes of a killed run. */
  readonly writersLock: string;
  /** Aborts a running copy; skopeo then rolls back its image. */
  readonly signal: AbortSignal;
}

/**
 * A loader that uses skopeo(1). Digests are preserved: skopeo refuses images that it would have to convert.
 * @throws PrestageError ERR_LOAD from `load`, ERR_STORAGE_DAMAGED from `remove`
 */
export function createLoader(options: LoaderOptions): Loader {
  return {
    load: async (source, reference) => {
      const result = await copy(options, source, reference);
      if (result.exitCode === 0) return;
      throw new PrestageError(
        'ERR_LOAD',
        `skopeo could not load ${reference} (it ${howEnded(result)}): ${quote(result.stderr)}`,
        remedyFor(result.stderr),
      );
    },
    remove: async (image) => {
      const names = image.names.length > 0 ? image.names : [image.id];
      const result = await options.exec('podman', [...podmanRoots(options.location), 'rmi', ...names], { signal: options.signal });
      if (result.exitCode === 0) return;
      throw new PrestageError(
        'ERR_STORAGE_DAMAGED',
        `image ${image.id} is damaged (${image.damage[0] ?? 'unknown damage'}) and podman could not remove it: ${quote(result.stderr)}`,
        `Stop the containers that use it, then run: podman rmi --force ${image.id}`,
      );
    },
  };
}

function podmanRoots(location: StorageLocation): readonly string[] {
  if (location.isEngineDefault === true) return [];
  return ['--root', location.graphroot, '--runroot', location.runroot, '--storage-driver', 'overlay'];
}

/** skopeo before 1.6 (RHEL 8.4) does not know `--preserve-digests`, but does not convert a copy from dir: either. */
async function copy(options: LoaderOptions, source: string, reference: string): Promise<ExecResult> {
  const destination = `containers-storage:[overlay@${options.location.graphroot}+${options.location.runroot}]${reference}`;
  const run = async (flags: readonly string[]): Promise<ExecResult> => {
    // Every byte of the source has been compared with a digest, so a policy.json that rejects unknown sources must not stop the load.
    // The flag is needed because a copy into containers-storage ignores TMPDIR and uses /var/tmp (skopeo 1.9.3).
    const skopeo = ['--insecure-policy', '--tmpdir', options.temporaryDirectory, 'copy', '--quiet', ...flags, source, destination];
    const { file, args } = holdingShared(options.writersLock, 'skopeo', skopeo);
    return await options.exec(file, args, { signal: options.signal });
  };
  const result = await run(['--preserve-digests']);
  return result.exitCode !== 0 && result.stderr.includes('unknown flag: --preserve-digests') ? await run([]) : result;
}

function remedyFor(stderr: string): string {
  if (/no space left on device/i.test(stderr)) return 'Free space below the graphroot, then start the run again: loaded images are kept';
  return 'Start the run again; if it fails again, check the bundle at the factory, and the storage with podman images';
}
