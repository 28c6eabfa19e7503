import type { Host } from '../host/host.ts';
import { readImages, type StorageLocation, type StoredImage } from './records.ts';

/** Pause between two readings, in times of what the last one took: at most a twentieth of a run goes into them. */
const PAUSE_TIMES = 20;

/**
 * Gives the image records as they are after the call; one reading serves all who asked before it began. To parse the records of 2,000 images takes
 * 50 ms, and a run asks after each image that it has loaded.
 * @throws PrestageError ERR_STORAGE, from the function that is given
 */
export function imageRecordsReader(location: StorageLocation, { clock }: Pick<Host, 'clock'>): () => Promise<readonly StoredImage[]> {
  let next: Promise<readonly StoredImage[]> | undefined;
  let notBeforeMs = 0;
  const read = async (): Promise<readonly StoredImage[]> => {
    const waitMs = notBeforeMs - clock.monotonicMs();
    // Awaited in each case: whoever asks in the same moment finds this reading as the next one.
    await (waitMs > 0 ? clock.sleep(waitMs) : undefined);
    next = undefined;
    const startMs = clock.monotonicMs();
    const images = await readImages(location);
    const endMs = clock.monotonicMs();
    notBeforeMs = endMs + PAUSE_TIMES * (endMs - startMs);
    return images;
  };
  return async () => {
    next ??= read();
    return await next;
  };
}
