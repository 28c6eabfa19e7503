import { constants } from 'node:fs';
import { copyFile, link, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { output } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import type { BundleFile } from '../model/bundle.ts';
import { parseExtents } from './image-extents.ts';
import { checkBundle, type ImageWork, makeEmpty, readBackImage, sealedFiles, workDirectory } from './image-work.ts';
import { EDGE_BYTES } from './plan-image.ts';

const BLOCK_BYTES = 4096;
const KIB = 1024;
/** RHCOS uses the numbers 1 to 4. */
const NUMBER = 5;

/**
 * Makes a disk image with a GPT and an ext4 partition. Needs neither root nor a loop device: sgdisk and mke2fs write the file directly.
 * @throws PrestageError ERR_BUNDLE_FILE, ERR_TOOL_MISSING, ERR_TOOL_FAILED, ERR_PARTITION_WRITE
 */
export async function makeExt4Image(host: Host, work: ImageWork): Promise<void> {
  const files = await sealedFiles(work);
  await checkBundle(host, work, files);
  await using directory = await workDirectory(work.path);
  const stage = join(directory.path, 'stage');
  await work.act('stage-image-files', async () => await stageFiles(stage, work.bundle.directory, files));
  await work.act('start-image', async () => await makeEmpty(work.path, work.plan.sizeBytes));
  const [start, end] = [EDGE_BYTES / 512, (EDGE_BYTES + work.plan.partitionBytes) / 512 - 1];
  const table = [`--new=${NUMBER}:${start}:${end}`, `--typecode=${NUMBER}:8300`, `--change-name=${NUMBER}:${work.label}`, work.path];
  await work.act('write-table', async () => await output(host.exec, 'sgdisk', table));
  const extended = `offset=${EDGE_BYTES},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0`;
  const size = `${work.plan.partitionBytes / KIB}k`;
  const args = ['-q', '-F', '-b', String(BLOCK_BYTES), '-m', '0', '-E', extended, '-d', stage, work.path, size];
  await work.act('fill-image', async () => await output(host.exec, 'mkfs.ext4', args, { signal: work.signal }));
  const placed = await placedFiles(host, work, { files, list: join(directory.path, 'commands') });
  await readBackImage(work, files, placed);
}

/** mke2fs takes a whole directory. So this makes one with only the files of the manifest: hard links if possible, else copies. */
async function stageFiles(stage: string, from: string, files: readonly BundleFile[]): Promise<void> {
  await mkdir(stage, { mode: 0o755 });
  for (const file of files) {
    const [source, target] = [join(from, file.path), join(stage, file.path)];
    await mkdir(dirname(target), { recursive: true, mode: 0o755 });
    await link(source, target).catch(async () => await copyFile(source, target, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL));
  }
}

/** Finds where the files are in the image. debugfs(8) reads the file system at its offset in the image. */
async function placedFiles(host: Host, work: ImageWork, { files, list }: { readonly files: readonly BundleFile[]; readonly list: string }) {
  await writeFile(list, files.map((file) => `ex -l "/${file.path}"\n`).join(''));
  const text = await output(host.exec, 'debugfs', ['-f', list, `${work.path}?offset=${EDGE_BYTES}`], { signal: work.signal });
  const sizes = new Map(files.map((file) => [file.path, file.sizeBytes]));
  return parseExtents(text, { sizes, blockBytes: BLOCK_BYTES, startBytes: EDGE_BYTES });
}
