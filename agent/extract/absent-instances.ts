import { join } from 'node:path';
import { isThere } from '../host/files.ts';
import { readPlainFile } from '../host/plain-file.ts';
import {
  ABSENT_INSTANCES_FILE,
  ABSENT_INSTANCES_LIMIT_BYTES,
  type AbsentByList,
  type AbsentInstance,
  parseAbsentInstances,
  platformText,
} from '../model/absent-instances.ts';
import type { Digest } from '../model/digest.ts';
import type { IndexManifest } from '../model/manifest.ts';

/** The instances of a list whose manifests are missing, each once. */
export async function findAbsent({ instances }: IndexManifest, pathOf: (digest: Digest) => string): Promise<readonly AbsentInstance[]> {
  const found = await Promise.all(
    [...new Map(instances.map((one) => [one.digest, one])).values()].map(async (one) =>
      (await isThere(pathOf(one.digest))) ? [] : [{ digest: one.digest, platform: platformText(one) }],
    ),
  );
  return found.flat();
}

/** Reads the record that a pull wrote into a layout. A file that is missing, not regular, too large or malformed counts as an empty record. */
export async function readAbsentInstances(layout: string): Promise<AbsentByList> {
  const bytes = await readPlainFile(join(layout, ABSENT_INSTANCES_FILE), ABSENT_INSTANCES_LIMIT_BYTES);
  return parseAbsentInstances(bytes?.toString('utf8') ?? '');
}
