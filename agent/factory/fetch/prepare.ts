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
 * Refuses a target with too little space; partial downloads need not be fetched again.
 * @throws PrestageError ERR_SPACE_FETCH
 */
export async function requireSpace(directory: string, plan: FetchPlan): Promise<void> {
  const parts = await Promise.all(plan.wanted.map(async (file) => await partBytes(directory, file.path)));
  const neededBytes = plan.wantedBytes - parts.reduce((total, one) => total + one, 0);
  const { freeBytes } = await spaceAt(directory);
  if (neededBytes <= freeBytes) return;
  throw new PrestageError(
    'ERR_SPACE_FETCH',
    `${directory} has ${formatBytes(freeBytes)} free, but ${formatBytes(neededBytes)} are still to be fetched`,
    'Free space there, or give another --to',
  );
}

/**
 * Refuses a folder that cannot take the files: because of links in their paths, or because it holds a bundle that does not list them. Asks
 * before a complete bundle is replaced.
 * @throws PrestageError ERR_FETCH_WRITE; errors of `confirm`
 */
export async function requireRoom(source: Source, plan: FetchPlan, { directory, confirm }: Target): Promise<void> {
  const remedy = 'Fetch into an empty folder, or move the existing files away';
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
      `${directory} holds a bundle, but the files to fetch come from a folder without ${BUNDLE_FILE}`,
      remedy,
    );
  }
  const old = (await sealOf(directory)) === 'sealed' ? await readManifest(directory).catch(() => undefined) : undefined;
  if (old !== undefined && old.sha256 !== source.sha256) await confirm?.(old);
}

/** Whether the folder has the manifest already, and no mark that it is incomplete. */
export async function isSealedBy(source: Source, directory: string): Promise<boolean> {
  const seal = await sealOf(directory);
  if (source.kind === 'folder') return seal !== 'partial';
  if (seal !== 'sealed') return false;
  return await readManifest(directory).then(
    (found) => found.sha256 === source.sha256,
    () => false,
  );
}

/** Writes PARTIAL_FILE durably, and removes temporary files of a killed fetch. */
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
