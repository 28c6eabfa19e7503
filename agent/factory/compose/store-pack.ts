import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { output } from '../../host/exec.ts';
import { type Host, hostPath } from '../../host/host.ts';
import { temporaryDirectory } from '../../host/remove-tree.ts';
import type { StoreCompression } from '../../model/bundle.ts';
import { PrestageError } from '../../model/errors.ts';
import { compressionArgs } from './store-compression.ts';

/** A progress bar has the length of a line; an incomplete one is kept until its end arrives. */
const BAR_LIMIT = 4096;

export interface PackOptions {
  readonly graphroot: string;
  /** Paths below it that are left out. */
  readonly without: readonly string[];
  /** The file to write. */
  readonly image: string;
  readonly compression: StoreCompression;
  /** Creation time of the file system, in seconds since 1970. */
  readonly stampSeconds: number;
  /** Threads that compress. */
  readonly jobs: number;
  readonly signal: AbortSignal;
  /** Called with the percentage of the work, once for each tenth. */
  readonly onTenth: (percent: number) => void;
}

/**
 * Packs a directory as squashfs. The same tree gives the same bytes: mksquashfs(1) is reproducible by default, with any number of threads. Times of
 * files are kept, since programs compare them.
 *
 * On a machine with SELinux every file has a label of that machine, which mksquashfs 4.6 and later can leave out: the node mounts with a
 * context of its own.
 * @throws PrestageError ERR_TOOL_FAILED, ERR_TOOL_MISSING
 */
export async function packSquashfs(host: Host, options: PackOptions): Promise<void> {
  const { graphroot, without, image, compression, stampSeconds, jobs, signal } = options;
  await rm(image, { force: true });
  const labels = existsSync(hostPath(host, '/sys/fs/selinux/enforce')) ? ['-xattrs-exclude', '^security\\.selinux$'] : [];
  const quiet = ['-noappend', '-quiet', '-exit-on-error', '-no-recovery'];
  const stamp = ['-mkfs-time', String(stampSeconds)];
  await using scratch = await temporaryDirectory('prestage-pack-');
  const list = join(scratch.path, 'without');
  await writeFile(list, without.map((path) => `${path}\n`).join(''));
  await output(
    host.exec,
    // mksquashfs would set all file times from that variable, and refuses it together with the option.
    'env',
    [
      '--unset=SOURCE_DATE_EPOCH',
      'mksquashfs',
      graphroot,
      image,
      ...quiet,
      ...compressionArgs(compression),
      '-xattrs',
      ...labels,
      ...stamp,
      '-processors',
      String(jobs),
      ...(without.length === 0 ? [] : ['-ef', list]),
    ],
    { signal, onStdout: tenthsOf(options.onTenth) },
  );
  signal.throwIfAborted();
}

/** Reads the progress bar of mksquashfs(1), `[====-  ] 3300/4763  69%`, and reports each tenth once. */
export function tenthsOf(onTenth: (percent: number) => void): (text: string) => void {
  let told = 0;
  let rest = '';
  return (text) => {
    rest = (rest + text).slice(-BAR_LIMIT);
    for (const [whole, percent] of rest.matchAll(/\d+\/\d+ +(\d{1,3})%/g)) {
      const tenth = Math.floor(Number(percent) / 10) * 10;
      rest = rest.slice(rest.indexOf(whole) + whole.length);
      if (tenth <= told) continue;
      told = tenth;
      onTenth(tenth);
    }
  };
}

export interface VerityOptions {
  readonly image: string;
  /** The file to write: superblock and hash tree. */
  readonly hashTree: string;
  /** Determines salt and UUID. */
  readonly seed: string;
  readonly signal: AbortSignal;
}

/**
 * Makes the dm-verity hash tree of a file and returns its root hash, 64 hex digits. Salt and UUID are a function of the seed.
 * Source: veritysetup(8), format; Linux, Documentation/admin-guide/device-mapper/verity.rst.
 * @throws PrestageError ERR_TOOL_FAILED, ERR_TOOL_MISSING
 */
export async function formatVerity(host: Host, options: VerityOptions): Promise<string> {
  const { image, hashTree, seed, signal } = options;
  await rm(hashTree, { force: true });
  const salt = createHash('sha256').update(`salt ${seed}`).digest('hex');
  const text = await output(
    host.exec,
    'veritysetup',
    ['format', `--salt=${salt}`, `--uuid=${uuidOf(seed)}`, '--hash=sha256', image, hashTree],
    { signal },
  );
  const rootHash = /^Root hash:\s+([0-9a-f]{64})$/m.exec(text)?.[1];
  if (rootHash === undefined) {
    throw new PrestageError('ERR_TOOL_FAILED', `veritysetup format ${image} printed no root hash: ${text}`, 'Install a current cryptsetup');
  }
  await chmod(hashTree, 0o644);
  return rootHash;
}

/** A UUID of version 8. Source: RFC 9562, section 5.8. */
function uuidOf(seed: string): string {
  const hex = createHash('sha256').update(`uuid ${seed}`).digest('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join('-');
}
