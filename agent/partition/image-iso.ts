import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { output } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import type { BundleFile } from '../model/bundle.ts';
import { parseLbaReport } from './image-extents.ts';
import { checkBundle, type ImageWork, readBackImage, sealedFiles, workDirectory } from './image-work.ts';

/**
 * Makes an ISO 9660 image with Rock Ridge names for virtual media, which the node finds by its volume label. Does not need root. Files over 4 GiB
 * have several parts (level 3). All files belong to root. With SOURCE_DATE_EPOCH the same bundle gives the same bytes.
 * @throws PrestageError ERR_BUNDLE_FILE, ERR_TOOL_MISSING, ERR_TOOL_FAILED, ERR_PARTITION_WRITE
 */
export async function makeIsoImage(host: Host, work: ImageWork): Promise<void> {
  const files = await sealedFiles(work);
  await checkBundle(host, work, files);
  await using directory = await workDirectory(work.path);
  const list = join(directory.path, 'files');
  await writeFile(list, formatPathList(work.bundle.directory, files));
  const how = ['-as', 'mkisofs', '-quiet', '-iso-level', '3', '-r', '-V', work.label, '-o', work.path, '-graft-points', '-path-list', list];
  await work.act('fill-image', async () => await output(host.exec, 'xorriso', how, { signal: work.signal }));
  const report = await output(host.exec, 'xorriso', ['-indev', work.path, '-find', '/', '-type', 'f', '-exec', 'report_lba', '--'], {
    signal: work.signal,
  });
  await readBackImage(work, files, parseLbaReport(report));
}

/** `/inner=outer` lines; an equals sign in a name is escaped. Source: xorrisofs(1), -graft-points and -path-list. */
export function formatPathList(directory: string, files: readonly BundleFile[]): string {
  const escaped = (path: string): string => path.replaceAll(/[\\=]/g, String.raw`\$&`);
  return files.map((file) => `/${escaped(file.path)}=${escaped(join(directory, file.path))}\n`).join('');
}
