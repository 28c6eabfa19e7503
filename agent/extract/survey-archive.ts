import { type FoundImage, type FoundManifest, findImage, readManifest, requireImage } from './archive-manifests.ts';
import { readMembers } from './archive-members.ts';
import type { Inflater } from './raw-inflate.ts';

export interface SurveyJob {
  /** Path of the `.tgz`. */
  readonly path: string;
  /** Name of the top directory that it must hold. */
  readonly name: string;
  /** GOARCH name: which image of a list is meant. */
  readonly architecture: string;
}

/** What an archive holds, as its manifests say; nothing of its blobs is checked. */
export interface Survey extends FoundImage {
  /** How far the archive was read. */
  readonly bytesRead: number;
  readonly archiveBytes: number;
}

/** What a job needs besides its input. */
export interface JobContext {
  readonly inflater: Inflater;
  readonly onRead: (bytesRead: number, archiveBytes: number) => void;
}

/**
 * Finds an archive's manifests, and stops reading as soon as they are known.
 * @throws PrestageError ERR_ARCHIVE_* for what is refused on the way, ERR_MANIFEST, ERR_ARCHITECTURE
 */
export async function surveyArchive(job: SurveyJob, context: JobContext): Promise<Survey> {
  const found: FoundManifest[] = [];
  let progress = { bytesRead: 0, archiveBytes: 0 };
  const onRead: JobContext['onRead'] = (bytesRead, archiveBytes) => {
    progress = { bytesRead, archiveBytes };
    context.onRead(bytesRead, archiveBytes);
  };
  for await (const entry of readMembers({ path: job.path, name: job.name, inflater: context.inflater, onRead })) {
    if (entry.member.kind !== 'manifest') continue;
    const { bytes: _, ...manifest } = await readManifest(entry, entry.member.digest, job.path);
    found.push(manifest);
    const image = findImage(found, job);
    if (image !== undefined) return { ...image, ...progress };
  }
  return { ...requireImage(found, job), ...progress };
}
