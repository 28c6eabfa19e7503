import { appendFile, mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { isSameState } from './content.ts';
import type { Downloaded } from './download.ts';
import { WORK_FOLDER } from './index-page.ts';
import type { RemoteFacts } from './listing.ts';

/**
 * The files that were fetched from a folder without a manifest: one line of JSON each. The last line of a path counts, and a line that a power
 * cut left incomplete is skipped. A later run compares the server's information with it.
 */
const JOURNAL = join(WORK_FOLDER, 'files.jsonl');

const recordSchema = v.object({
  path: v.string(),
  url: v.string(),
  /** Of the file as it was put in its place. */
  sizeBytes: v.number(),
  modifiedMs: v.number(),
  etag: v.exactOptional(v.string()),
  lastModified: v.exactOptional(v.string()),
});
export type FetchRecord = v.InferOutput<typeof recordSchema>;

export async function readJournal(directory: string): Promise<ReadonlyMap<string, FetchRecord>> {
  const text = await readFile(join(directory, JOURNAL), 'utf8').catch(() => '');
  const records = text.split('\n').flatMap((line) => {
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), recordSchema), line);
    return parsed.success ? [[parsed.output.path, parsed.output] as const] : [];
  });
  return new Map(records);
}

export async function noteDownload(directory: string, file: Downloaded, url: URL): Promise<void> {
  const { mtimeMs } = await stat(join(directory, file.path));
  const record: FetchRecord = { path: file.path, url: url.href, sizeBytes: file.sizeBytes, modifiedMs: mtimeMs, ...file.validator };
  await mkdir(join(directory, WORK_FOLDER), { recursive: true });
  await appendFile(join(directory, JOURNAL), `${JSON.stringify(record)}\n`);
}

/** Facts about an existing plain file. */
export interface LocalFacts {
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

/**
 * Whether a file need not be fetched: it is unchanged since it was fetched, and the server still has that state. A server that sends neither
 * ETag nor Last-Modified proves nothing. Pure.
 */
export function isUnchanged(record: FetchRecord | undefined, local: LocalFacts | undefined, remote: RemoteFacts): boolean {
  if (record === undefined || local === undefined) return false;
  const isOurs = record.sizeBytes === local.sizeBytes && record.modifiedMs === local.modifiedMs;
  const hasSize = remote.sizeBytes === undefined || remote.sizeBytes === record.sizeBytes;
  return isOurs && hasSize && isSameState(record, remote.validator);
}
