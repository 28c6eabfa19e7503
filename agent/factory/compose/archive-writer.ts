import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { linkDirLayout } from '../../extract/oci-layout.ts';
import { type Exec, output } from '../../host/exec.ts';
import type { Host } from '../../host/host.ts';
import { removeTree } from '../../host/remove-tree.ts';
import { hexOf } from '../../model/digest.ts';
import { archiveNameOf } from '../../model/reference.ts';
import type { NamedImage } from './source-image.ts';

export interface WriteArchivesOptions {
  /** The OCI image layout that has the blobs. */
  readonly layout: string;
  /** Folder of the archives. */
  readonly to: string;
  /** Directory of our own, made empty. */
  readonly work: string;
  /** Archives at a time. */
  readonly jobs: number;
  readonly signal: AbortSignal;
}

/** A layer is compressed already: a higher level costs time and gains nothing. `n` leaves time and name out of the header. */
const COMPRESS = 'gzip -1n';

/**
 * Writes one archive per image with tar(1). Members that a reader needs first come first. The same images give the same bytes.
 * Source: docs/field-facts.md, "Archive"; tar(1), "reproducibility".
 * @throws PrestageError ERR_TOOL_FAILED, ERR_TOOL_MISSING
 */
export async function writeArchives(host: Host, images: readonly NamedImage[], options: WriteArchivesOptions): Promise<void> {
  await removeTree(options.work);
  await mkdir(options.work, { recursive: true });
  await mkdir(options.to, { recursive: true });
  const byName = new Map(images.map((image) => [archiveNameOf(image.reference), image]));
  const limit = pLimit(options.jobs);
  const written = await Promise.allSettled([...byName].map(([name, image]) => limit(() => writeArchive(host, name, image, options))));
  const failed = written.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  await removeTree(options.work);
}

async function writeArchive(host: Host, name: string, { image }: NamedImage, options: WriteArchivesOptions): Promise<void> {
  options.signal.throwIfAborted();
  const directory = join(options.work, name);
  await linkDirLayout(options.layout, image.top.digest, directory);
  const own = image.manifest === image.top.digest ? [] : [`${hexOf(image.manifest)}.manifest.json`];
  const blobs = [...new Set([image.config, ...image.layers.map((layer) => layer.digest)])].map(hexOf);
  const members = ['version', 'manifest.json', ...own, ...blobs].map((file) => `${name}/${file}`);
  const same = [
    '--mtime=@0',
    '--owner=0',
    '--group=0',
    '--numeric-owner',
    '--mode=0644',
    '--format=gnu',
    '--dereference',
    '--hard-dereference',
  ];
  await output(
    tarOf(host.exec, () => contentsOf(members.map((member) => join(options.work, member)))),
    'tar',
    [
      '--create',
      `--file=${join(options.to, `${name}.tgz`)}`,
      `--use-compress-program=${COMPRESS}`,
      ...same,
      '-C',
      options.work,
      '--',
      ...members,
    ],
    { signal: options.signal },
  );
  options.signal.throwIfAborted();
  await removeTree(directory);
}

/** tar's message about a file whose inode has changed; it then exits with 1. Source: tar(1), "RETURN VALUE". */
const TOUCHED = /^tar: .+: file changed as we read it$/;

/** Runs tar and accepts that another build from the same layout has linked a blob in the meantime: its content has not changed. */
function tarOf(exec: Exec, contents: () => Promise<string>): Exec {
  return async (...command) => {
    const before = await contents();
    const result = await exec(...command);
    const isTouched =
      result.exitCode === 1 &&
      result.stderr
        .trim()
        .split('\n')
        .every((line) => TOUCHED.test(line));
    return isTouched && (await contents()) === before ? { ...result, exitCode: 0 } : result;
  };
}

/** Sizes and times of the last change of content. */
async function contentsOf(paths: readonly string[]): Promise<string> {
  const each = await Promise.all(paths.map((path) => stat(path, { bigint: true })));
  return each.map(({ size, mtimeNs }) => `${size} ${mtimeNs}`).join('\n');
}
