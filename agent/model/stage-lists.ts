import { PrestageError } from './errors.ts';
import type { Stage } from './stage.ts';

/** File names that a factory tool gives to the list of a stage. */
interface ListKind {
  /** The names as a glob, for messages. */
  readonly glob: string;
  readonly pattern: RegExp;
}

/**
 * The file names that the list of a stage can have, by the tool that writes it.
 * - discovery: `ai-images.txt` (factory-precaching tool), `initial-images*.txt` (prototype)
 * - installed: `ocp-images.txt` (factory-precaching tool), `ocp-images-*.txt` and `ocp_images.txt*` (prototype: `ocp_images.txt.4.10.3`)
 *
 * Source: docs/field-facts.md, "Folder of the factory-precaching tool".
 */
const KINDS: Readonly<Record<Stage, readonly ListKind[]>> = {
  discovery: [
    { glob: 'ai-images.txt', pattern: /^ai-images\.txt$/ },
    { glob: 'initial-images*.txt', pattern: /^initial-images.*\.txt$/ },
  ],
  installed: [
    { glob: 'ocp-images.txt', pattern: /^ocp-images\.txt$/ },
    { glob: 'ocp-images-*.txt', pattern: /^ocp-images-.+\.txt$/ },
    { glob: 'ocp_images.txt*', pattern: /^ocp_images\.txt.*$/ },
  ],
};

/** The file names of the list of a stage, as globs, for messages and help. */
export function stageListNames(stage: Stage): readonly string[] {
  return KINDS[stage].map((kind) => kind.glob);
}

/**
 * The file names of a folder that are image lists of a stage: none, or one of each kind, in the order of `stageListNames`. If a folder holds
 * several kinds, they are read as one list.
 * @param fileNames names without a directory, in any order
 * @throws PrestageError ERR_LIST_AMBIGUOUS if there are two files of one kind, such as the lists of two releases
 */
export function pickStageLists(stage: Stage, fileNames: readonly string[]): readonly string[] {
  return KINDS[stage].flatMap(({ glob, pattern }) => {
    const matching = fileNames.filter((name) => pattern.test(name)).sort();
    if (matching.length <= 1) return matching;
    throw new PrestageError(
      'ERR_LIST_AMBIGUOUS',
      `The stage ${stage} has ${matching.length} image lists of the form ${glob}: ${matching.join(', ')}`,
      'Keep the list of one release in the folder and move the others away',
    );
  });
}
