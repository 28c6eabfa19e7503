import { join } from 'node:path';
import type { BundleFault } from '../bundle/verify-files.ts';
import { readAbsentInstances } from '../extract/absent-instances.ts';
import { absentInstance, layoutList } from '../extract/oci-layout.ts';
import { type AbsentInstance, absentText } from '../model/absent-instances.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { instanceFor } from '../model/manifest.ts';
import { type BlobStore, blobError, type WantedImage } from './blobs.ts';
import type { Checked } from './context.ts';

/**
 * Compares the images of lists that a layout lacks with the record of `pull`. An image that the registry did not have is a notice; one that was lost
 * afterwards is a fault. If no pull has recorded the list, images of other platforms may be missing, because a copy for one platform leaves them out.
 * @returns `others`: the images whose blobs must still be checked
 */
export async function verifyLists<T extends WantedImage>(
  layout: string,
  store: BlobStore,
  images: readonly T[],
  architecture: string,
): Promise<Checked & { readonly others: readonly T[] }> {
  const record = await readAbsentInstances(layout);
  const faults = new Map<string, BundleFault>();
  const lacking: { readonly reference: string; readonly absent: readonly AbsentInstance[] }[] = [];
  const others: T[] = [];
  for (const image of images) {
    const { reference, digest } = image;
    const found = await layoutList(layout, digest).catch(ofList);
    const recorded = record.get(digest);
    const isKnown = (one: AbsentInstance): boolean => recorded?.some((known) => known.digest === one.digest) === true;
    const own = found && instanceFor(found.list, architecture)?.digest;
    const absent = found?.absent ?? [];
    if (own !== undefined && absent.some((one) => one.digest === own && isKnown(one))) {
      const path = store.pathOf(digest);
      faults.set(path, { path, ...errorRecord(await absentInstance(layout, digest, own, architecture)) });
    } else others.push(image);
    const ofOthers = absent.filter((one) => one.digest !== own);
    for (const one of recorded === undefined ? [] : ofOthers.filter((each) => !isKnown(each))) {
      const path = store.pathOf(one.digest);
      const message = `${join(store.directory, path)}, which the list of ${reference} names${one.platform && ` for ${one.platform}`}, is missing`;
      if (!faults.has(path)) faults.set(path, { path, ...errorRecord(blobError(store, message)) });
    }
    lacking.push({ reference, absent: recorded === undefined ? ofOthers : ofOthers.filter(isKnown) });
  }
  const text = absentText(lacking, 'this layout lacks');
  return { faults: [...faults.values()], notices: text === undefined ? [] : [text], others };
}

/** Ignores a faulty manifest here: the check of its blobs reports it. */
function ofList(error: unknown): undefined {
  if (error instanceof PrestageError) return undefined;
  throw error;
}
