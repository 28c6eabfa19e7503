import { join } from 'node:path';
import { syncDirectory, writeAtomic } from '../../host/atomic.ts';
import { withoutImages } from '../../model/image-list.ts';

export interface KeptLists {
  /** The folder that images are pulled into. */
  readonly directory: string;
  /** List files to write, by name. */
  readonly lists: ReadonlyMap<string, string>;
  /** Lines to leave out of the written lists, as listed. */
  readonly leftOut: ReadonlySet<string>;
}

/** Writes the lists into the folder, so that `build --from` and a node know which image belongs to which stage. */
export async function writeLists({ directory, lists, leftOut }: KeptLists): Promise<void> {
  for (const [name, text] of lists) await writeAtomic(join(directory, name), withoutImages(text, leftOut));
  await syncDirectory(directory);
}
