import { archiveCollisions, type ListText, parseImageLists } from '../../model/image-list.ts';
import { nameOf } from '../../model/reference.ts';

export interface MergedList {
  /** References in the order of the lists, each once. */
  readonly references: readonly string[];
  /** Dropped duplicates, with their places. */
  readonly notices: readonly string[];
  /** Images that cannot be used together. */
  readonly conflicts: readonly string[];
}

/**
 * Merges image lists. Keeps the order, drops duplicates, and reports conflicts: one tag with two digests, or one archive name for two images. Pure.
 * @throws PrestageError ERR_LIST with every fault of every list
 */
export function mergeLists(lists: readonly ListText[]): MergedList {
  const { images, notices } = parseImageLists(lists);
  const tagged = Map.groupBy(
    images.filter((image) => image.reference.tag !== undefined && image.reference.digest !== undefined),
    (image) => `${nameOf(image.reference)}:${image.reference.tag}`,
  );
  const moved = [...tagged].flatMap(([name, group]) => {
    const digests = new Set(group.map((image) => image.reference.digest));
    return digests.size > 1 ? [`${name} is listed with different digests: ${[...digests].join(' and ')}`] : [];
  });
  const collided = archiveCollisions(images).map(
    (group) =>
      `${group.map((image) => image.text).join(' and ')} have the same archive name ${group[0]?.archiveName}.tgz (only a problem for --format archives)`,
  );
  return { references: images.map((image) => image.text), notices, conflicts: [...moved, ...collided] };
}
