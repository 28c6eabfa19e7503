import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Act } from '../../host/acts.ts';
import { removeTemporaries } from '../../host/atomic.ts';
import { makeWorkplace } from '../../host/chain.ts';
import type { Host } from '../../host/host.ts';
import { takeLock } from '../../host/lock.ts';
import { makeEmptyDirectory, removeTree, temporaryDirectory } from '../../host/remove-tree.ts';
import { digestOf, hexOf } from '../../model/digest.ts';
import { targetError } from './blob-store.ts';

export interface PlacesRequest {
  readonly format: 'oci' | 'archives';
  /** Write nothing into the folder. */
  readonly isDry: boolean;
  readonly act: Act;
}

/** The directories of a pull. */
export interface Places extends AsyncDisposable {
  /** The folder that is pulled into. */
  readonly to: string;
  /** Blobs by their digest. */
  readonly blobs: string;
  /** Temporary files, on the same file system; empty at the start, removed at the end. */
  readonly scratch: string;
  /** Also removes the files that only a later pull could continue from. */
  forget(): Promise<void>;
}

/**
 * Makes the directories of a pull and removes temporary files of a killed one. A dry run gets a scratch directory elsewhere and makes nothing.
 * @throws PrestageError ERR_PULL_WRITE, ERR_SPACE_PULL, ERR_LOCKED if another pull works in the folder
 */
export async function makePlaces(host: Host, request: PlacesRequest, to: string): Promise<Places> {
  const { act } = request;
  const staging = join(to, '.staging');
  const blobs = request.format === 'oci' ? join(to, 'blobs/sha256') : join(staging, 'blobs/sha256');
  if (request.isDry) {
    const scratch = await temporaryDirectory('prestage-pull-');
    const gone = async (): Promise<void> => await scratch[Symbol.asyncDispose]();
    return { to, blobs, scratch: scratch.path, forget: async () => undefined, [Symbol.asyncDispose]: gone };
  }
  const scratch = join(staging, 'work');
  const lock = await act('start-pull', async () => await lockAndClear({ to, blobs, scratch }));
  host.log('debug', `${to}: temporary files in ${scratch}`);
  return {
    to,
    blobs,
    scratch,
    forget: async () => await act('remove-staging', async () => await removeTree(staging)),
    [Symbol.asyncDispose]: async () => {
      await act('end-pull', async () => await removeTree(scratch));
      await lock[Symbol.asyncDispose]();
    },
  };
}

async function lockAndClear({ to, blobs, scratch }: Pick<Places, 'to' | 'blobs' | 'scratch'>): Promise<AsyncDisposable> {
  // Not in the folder, since the lock would be copied along with it. Private to this user, since anyone can take a name in the directory above.
  const locks = join(tmpdir(), `prestage-agent-${process.geteuid?.()}`);
  await makeWorkplace(locks);
  const path = join(locks, `pull-${hexOf(digestOf(to)).slice(0, 16)}.lock`);
  const lock = await takeLock({ path, waitSeconds: 0, command: `pull --to ${to}` });
  try {
    await makeWorkplace(to);
    await mkdir(blobs, { recursive: true });
    await makeEmptyDirectory(scratch);
    for (const directory of [to, blobs]) await removeTemporaries(directory);
    return lock;
  } catch (cause) {
    await lock[Symbol.asyncDispose]();
    throw targetError(cause);
  }
}
