import { type FoundImage, type FoundManifest, findImage, readManifest, requireImage } from './archive-manifests.ts';
import { readMembers } from './archive-members.ts';
import type { Inflater } from './raw-inflate.ts';

export interface SurveyJob {
  /** Path of the `.tgz`. */
  readonly path: string;
  /** Name of the top directory that it must hold. */
  readonly name: string;
  /** GOARCH name that selects the image of a manifest list. */
  readonly architecture: string;
}

/** Content of an archive according to its manifests; its blobs are not checked. */
export interface Survey extends FoundImage {
  /** Number of archive bytes read. */
  readonly bytesRead: number;
  readonly archiveBytes: number;
}

/** What a job needs in addition to its input. */
export interface JobContext {
  readonly inflater: Inflater;
  readonly onRead: (bytesRead: number, archiveBytes: number) => void;
}

/**
 * Finds the manifests of an archive, and stops reading as soon as it has them.
 * @throws PrestageError ERR_ARCHIVE_* if the archive is refused, ERR_MANIFEST, ERR_ARCHITECTURE
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
