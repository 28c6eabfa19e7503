import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { BUNDLE_LIMIT_BYTES, isInnerPath, PARTIAL_FILE } from '../model/bundle.ts';

/** Content of PARTIAL_FILE while a bundle is being written: the files that may be removed if another bundle is written instead. */
const noteSchema = v.object({
  apiVersion: v.literal('prestage-agent/v1'),
  kind: v.literal('PartialBundle'),
  files: v.array(
    v.object({ path: v.pipe(v.string(), v.check(isInnerPath)), sizeBytes: v.pipe(v.number(), v.safeInteger(), v.minValue(0)) }),
  ),
});

type NotedFile = v.InferOutput<typeof noteSchema>['files'][number];

export function formatNote(files: readonly NotedFile[]): string {
  const unique = new Map(files.map(({ path, sizeBytes }) => [path, { path, sizeBytes }]));
  return `${JSON.stringify({ apiVersion: 'prestage-agent/v1', kind: 'PartialBundle', files: [...unique.values()] })}\n`;
}

/** The files in the note at the top of a partition; undefined if there is no note. A note of another tool or version lists no files. */
export async function readNote(top: string): Promise<readonly NotedFile[] | undefined> {
  try {
    await using file: FileHandle = await open(join(top, PARTIAL_FILE), 'r');
    const { size } = await file.stat();
    return size > BUNDLE_LIMIT_BYTES ? [] : parseNote(await file.readFile('utf8'));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

export function parseNote(text: string): readonly NotedFile[] {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), noteSchema), text);
  return parsed.success ? parsed.output.files : [];
}
