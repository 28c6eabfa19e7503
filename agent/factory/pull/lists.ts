import { basename } from 'node:path';
import { PrestageError } from '../../model/errors.ts';
import { archiveCollisions, type ListedImage, type ListText, parseImageLists } from '../../model/image-list.ts';
import type { Stage } from '../../model/stage.ts';
import { STAGES } from '../../model/stage.ts';
import { pickStageLists, stageListNames } from '../../model/stage-lists.ts';
import type { PullRequest } from './request.ts';

/** The images that the lists of a request ask for. */
export interface WantedImages {
  readonly images: readonly ListedImage[];
  /** List files to write, by name. */
  readonly lists: ReadonlyMap<string, string>;
  readonly notices: readonly string[];
}

/** The names that the node looks for first. */
const LIST_NAMES: Readonly<Record<Stage, string>> = { discovery: 'ai-images.txt', installed: 'ocp-images.txt' };

/**
 * Reads the lists of a request. Pure.
 * @throws PrestageError ERR_LIST, ERR_ARCHIVE_COLLISION, ERR_USAGE
 */
export function wantedImages(request: Pick<PullRequest, 'lists' | 'format' | 'stage'>): WantedImages {
  const { images, notices } = parseImageLists(request.lists);
  if (images.length === 0) {
    const where = request.lists.map((list) => list.where).join(', ');
    throw new PrestageError(
      'ERR_LIST',
      `${where} lists no image`,
      'Write one image reference per line, or make lists with prestage-agent images',
    );
  }
  if (request.format === 'archives') refuseCollisions(images);
  const lists = listFiles(request);
  const unknown = [...lists.keys()].filter(isUnknown);
  const known = STAGES.flatMap(stageListNames).join(', ');
  if (request.format === 'oci') {
    // Another name could be that of a file of the layout.
    const kept = new Map([...lists].filter(([name]) => !isUnknown(name)));
    const notice = (name: string): string =>
      `${name} is not kept in the folder, because no stage has a list of this name (${known}): give --stage, or name the list when you build`;
    return { images, lists: kept, notices: [...notices, ...unknown.map(notice)] };
  }
  const notice = (name: string): string => `the node does not read ${name} as a list, only ${known}; give --stage`;
  return { images, lists, notices: [...notices, ...unknown.map(notice)] };
}

function isUnknown(name: string): boolean {
  return STAGES.every((stage) => pickStageLists(stage, [name]).length === 0);
}

function listFiles({ lists, stage, format }: Pick<PullRequest, 'lists' | 'stage' | 'format'>): ReadonlyMap<string, string> {
  if (stage !== undefined) return new Map([[LIST_NAMES[stage], joined(lists)]]);
  if (format === 'oci') return new Map([...Map.groupBy(lists, ({ where }) => basename(where))].map(([name, same]) => [name, joined(same)]));
  const named = new Map<string, ListText>();
  for (const list of lists) {
    const name = basename(list.where);
    const earlier = named.get(name);
    if (earlier !== undefined) {
      throw new PrestageError(
        'ERR_USAGE',
        `${earlier.where} and ${list.where} have the same file name`,
        'Give --stage to write them as one list',
      );
    }
    named.set(name, list);
  }
  return new Map([...named].map(([name, { text }]) => [name, withLineEnd(text)]));
}

function joined(lists: readonly ListText[]): string {
  return lists.map(({ text }) => withLineEnd(text)).join('');
}

function withLineEnd(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}

function refuseCollisions(images: readonly ListedImage[]): void {
  const groups = archiveCollisions(images);
  if (groups.length === 0) return;
  const faults = groups.map(
    (group) => `${group.map(({ text }) => text).join(' and ')} would have the same archive name ${group[0]?.archiveName}.tgz`,
  );
  throw new PrestageError(
    'ERR_ARCHIVE_COLLISION',
    faults.join('\n'),
    'List them by digest, pull them into separate folders, or pull with --format oci',
  );
}
