import { mkdir, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { pack } from 'tar-stream';
import { writeAtomic } from '../host/atomic.ts';
import { checkWorkplace } from '../host/chain.ts';
import type { Host } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';
import type { Report } from './report.ts';

/** The one directory at the top of a packed report. */
const TOP = 'prestage-report';

/**
 * Writes a report into a directory, which must be empty and is created if it is missing. Only its owner can read it.
 * @throws PrestageError ERR_REPORT, ERR_USAGE
 */
export async function writeReportDirectory(report: Report, directory: string): Promise<void> {
  await writing(directory, async () => {
    await checkWorkplace(directory);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await checkWorkplace(directory);
    if ((await readdir(directory)).length > 0)
      throw new PrestageError('ERR_USAGE', `${directory} is not empty`, 'Use an empty directory, or one that does not exist yet');
    for (const { name, text } of report.files) {
      const path = join(directory, name);
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await writeAtomic(path, text, 0o600);
    }
  });
}

/**
 * Writes a report as a gzipped tar archive that only its owner can read. Replaces an existing file; follows no link.
 * @throws PrestageError ERR_REPORT
 */
export async function writeReportFile(host: Host, report: Report, path: string): Promise<void> {
  const archive = pack();
  const mtime = host.clock.now();
  for (const { name, text } of report.files) archive.entry({ name: `${TOP}/${name}`, mode: 0o600, mtime }, text);
  archive.finalize();
  const bytes = await promisify(gzip)(await buffer(archive));
  await writing(path, async () => await writeAtomic(path, bytes, 0o600));
}

async function writing(path: string, work: () => Promise<void>): Promise<void> {
  await work().catch((cause: unknown) => {
    if (cause instanceof PrestageError) throw cause;
    throw new PrestageError(
      'ERR_REPORT',
      `${path}: the report cannot be written: ${reasonOf(cause)}`,
      'Choose a writable place with --output-file or --directory',
      { cause },
    );
  });
}
