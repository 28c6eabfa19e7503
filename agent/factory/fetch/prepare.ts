import { existsSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { readManifest, type SealedBundle, sealOf } from '../../bundle/read-bundle.ts';
import { removeTemporaries, syncDirectory } from '../../host/atomic.ts';
import { makeWorkplace } from '../../host/chain.ts';
import { spaceAt } from '../../host/space.ts';
import { BUNDLE_FILE, PARTIAL_FILE } from '../../model/bundle.ts';
import { formatBytes } from '../../model/bytes.ts';
import { PrestageError } from '../../model/errors.ts';
import { listFaults } from '../../model/faults.ts';
import { obstaclesAt } from '../../partition/inner-files.ts';
import { partBytes, writeFault } from './part.ts';
import type { FetchPlan } from './plan.ts';
import type { Source } from './source.ts';

interface Target {
  readonly directory: string;
  readonly confirm?: ((replaced: SealedBundle) => Promise<void>) | undefined;
}

/**
 * Refuses a target with too little room, what is there of the files counted in.
 * @throws PrestageError ERR_SPACE_FETCH
 */
export async function requireSpace(directory: string, plan: FetchPlan): Promise<void> {
  const parts = await Promise.all(plan.wanted.map(async (file) => await partBytes(directory, file.path)));
  const neededBytes = plan.wantedBytes - parts.reduce((total, one) => total + one, 0);
  const { freeBytes } = await spaceAt(directory);
  if (neededBytes <= freeBytes) return;
  throw new PrestageError(
    'ERR_SPACE_FETCH',
    `${directory} has ${formatBytes(freeBytes)} free, and ${formatBytes(neededBytes)} are still to be fetched`,
    'Make room there, or give another --to',
  );
}

/**
 * Refuses a folder in which the files cannot lie as they should: through links, or below the manifest of a bundle that does not know them. Asks
 * before a whole bundle is given up.
 * @throws PrestageError ERR_FETCH_WRITE; what `confirm` throws
 */
export async function requireRoom(source: Source, plan: FetchPlan, { directory, confirm }: Target): Promise<void> {
  const remedy = 'Fetch into an empty folder, or move away what stands in the way';
  const isThere = existsSync(directory);
  const paths = plan.wanted.map((file) => file.path);
  const obstacles = isThere ? await obstaclesAt(directory, paths) : [];
  if (obstacles.length > 0) {
    throw new PrestageError('ERR_FETCH_WRITE', listFaults(`${directory} cannot take the files`, obstacles), remedy);
  }
  if (!existsSync(join(directory, BUNDLE_FILE))) return;
  if (source.kind === 'folder') {
    throw new PrestageError(
      'ERR_FETCH_WRITE',
      `${directory} holds a bundle, and the files of a folder without ${BUNDLE_FILE} are not part of it`,
      remedy,
    );
  }
  const old = (await sealOf(directory)) === 'sealed' ? await readManifest(directory).catch(() => undefined) : undefined;
  if (old !== undefined && old.sha256 !== source.sha256) await confirm?.(old);
}

/** Whether the folder carries the manifest already, and no sign that it is not whole. */
export async function isSealedBy(source: Source, directory: string): Promise<boolean> {
  const seal = await sealOf(directory);
  if (source.kind === 'folder') return seal !== 'partial';
  if (seal !== 'sealed') return false;
  return await readManifest(directory).then(
    (found) => found.sha256 === source.sha256,
    () => false,
  );
}

/** Puts PARTIAL_FILE there, durably, and takes away what a killed fetch was about to name. */
export async function markPartial(directory: string): Promise<void> {
  const path = join(directory, PARTIAL_FILE);
  try {
    await makeWorkplace(directory);
    await using file: FileHandle = await open(path, 'a');
    await file.sync();
    await syncDirectory(directory);
    await removeTemporaries(directory);
  } catch (error) {
    throw writeFault(path, error);
  }
}
