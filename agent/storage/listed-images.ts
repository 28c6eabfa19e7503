import type { Host } from '../host/host.ts';
import { readImages, type StorageLocation, type StoredImage } from './records.ts';

/** Pause between two readings, as a multiple of the time that the last one took: readings take at most a twentieth of a run. */
const PAUSE_TIMES = 20;

/**
 * Makes a function that returns the image records as they are after its call; one reading answers all calls made before it began. Parsing the records
 * of 2,000 images takes 50 ms, and a run calls it after each image that it has loaded.
 * @throws PrestageError ERR_STORAGE, from the returned function
 */
export function imageRecordsReader(location: StorageLocation, { clock }: Pick<Host, 'clock'>): () => Promise<readonly StoredImage[]> {
  let next: Promise<readonly StoredImage[]> | undefined;
  let notBeforeMs = 0;
  const read = async (): Promise<readonly StoredImage[]> => {
    const waitMs = notBeforeMs - clock.monotonicMs();
    // Awaited in every case, so that all calls of the same moment share this reading.
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
