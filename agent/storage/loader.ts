import { type Exec, type ExecResult, howEnded, quote } from '../host/exec.ts';
import { holdingShared } from '../host/lock.ts';
import { PrestageError } from '../model/errors.ts';
import type { StorageLocation, StoredImage } from './records.ts';

/** Loads into and removes from one containers-storage, by skopeo and podman. */
export interface Loader {
  /** Copies from a skopeo source (`dir:PATH`, `oci:PATH:NAME`) into the storage under one full reference. */
  load(source: string, reference: string): Promise<void>;
  /** Removes a damaged image by its names; refuses where a container uses it. */
  remove(image: StoredImage): Promise<void>;
}

export interface LoaderOptions {
  readonly exec: Exec;
  readonly location: StorageLocation;
  /** Where skopeo keeps its temporary copies of blobs; the caller empties it. */
  readonly temporaryDirectory: string;
  /** Lock that skopeo holds shared while it writes, so that a later run can wait for what a killed one left behind. */
  readonly writersLock: string;
  /** Ends a running copy; skopeo then rolls its image back. */
  readonly signal: AbortSignal;
}

/**
 * A loader that drives skopeo(1). The digests are preserved: what skopeo would have to convert it refuses.
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
        `Stop what uses it, then: podman rmi --force ${image.id}`,
      );
    },
  };
}

function podmanRoots(location: StorageLocation): readonly string[] {
  if (location.isEngineDefault === true) return [];
  return ['--root', location.graphroot, '--runroot', location.runroot, '--storage-driver', 'overlay'];
}

/** skopeo before 1.6 (RHEL 8.4) knows no `--preserve-digests`; a copy from dir: converts nothing there either. */
async function copy(options: LoaderOptions, source: string, reference: string): Promise<ExecResult> {
  const destination = `containers-storage:[overlay@${options.location.graphroot}+${options.location.runroot}]${reference}`;
  const run = async (flags: readonly string[]): Promise<ExecResult> => {
    // Every byte of the source was held against a digest before: a policy.json that rejects what it does not know must not keep it out.
    // The flag, not TMPDIR: a copy into containers-storage passes that over and takes /var/tmp (skopeo 1.9.3).
    const skopeo = ['--insecure-policy', '--tmpdir', options.temporaryDirectory, 'copy', '--quiet', ...flags, source, destination];
    const { file, args } = holdingShared(options.writersLock, 'skopeo', skopeo);
    return await options.exec(file, args, { signal: options.signal });
  };
  const result = await run(['--preserve-digests']);
  return result.exitCode !== 0 && result.stderr.includes('unknown flag: --preserve-digests') ? await run([]) : result;
}

function remedyFor(stderr: string): string {
  if (/no space left on device/i.test(stderr)) return 'Make room below the graphroot, then start the run again: what is loaded stays';
  return 'Start the run again; where it fails again, check the bundle at the factory and the storage with: podman images';
}
