import pLimit from 'p-limit';
import type { Host } from '../../host/host.ts';
import { withRetries } from '../../host/retry.ts';
import { type ErrorRecord, errorRecord } from '../../model/errors.ts';
import type { ListedImage } from '../../model/image-list.ts';
import type { BlobStore } from '../shared/blob-store.ts';
import { isTransient } from '../shared/failures.ts';
import type { PullRequest } from './request.ts';
import { type ResolvedImage, resolveImage } from './resolve.ts';

/** Manifests are small: more at a time than images, because they wait for the network and not for this machine. */
const PARALLEL_MANIFESTS = 8;

export interface Resolution {
  readonly resolved: readonly ResolvedImage[];
  /** By the reference as the list has it. */
  readonly failed: ReadonlyMap<string, ErrorRecord>;
}

/** Resolves all images that can be, in the order of the list. */
export async function resolveAll(
  listed: readonly ListedImage[],
  {
    host,
    request,
    scratch,
    store,
  }: { readonly host: Host; readonly request: PullRequest; readonly scratch: string; readonly store: BlobStore },
): Promise<Resolution> {
  const { source, retries, stop, onEvent } = request;
  const limit = pLimit(PARALLEL_MANIFESTS);
  const failed = new Map<string, ErrorRecord>();
  const resolveOne = async (image: ListedImage): Promise<ResolvedImage | undefined> => {
    if (stop.aborted) return undefined;
    const onRetry = (error: unknown, pauseMs: number): void =>
      onEvent({ kind: 'image-retried', reference: image.text, error: errorRecord(error), pauseMs });
    try {
      return await withRetries(
        { clock: host.clock, retries, isRetryable: isTransient, signal: stop, onRetry },
        async () =>
          await resolveImage(image, {
            exec: host.exec,
            source,
            scratch,
            signal: stop,
            known: async (digest) => await store.readSmall(digest),
          }),
      );
    } catch (error) {
      if (!stop.aborted) failed.set(image.text, errorRecord(error));
      return undefined;
    }
  };
  const all = await Promise.all(listed.map((image) => limit(resolveOne, image)));
  return { resolved: all.filter((image) => image !== undefined), failed };
}
