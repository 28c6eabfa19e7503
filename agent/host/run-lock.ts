import { RUN_LOCK } from '../model/places.ts';
import { type Host, hostPath } from './host.ts';
import { type LockRequest, takeLock } from './lock.ts';
import { checkOwnPlaces } from './own-places.ts';

/**
 * Takes the lock of the one command that changes what the agent keeps on a node, once its directories are known to be its own.
 * @throws PrestageError ERR_PLACE, ERR_LOCKED
 */
export async function takeRunLock(host: Host, request: Omit<LockRequest, 'path'>): Promise<AsyncDisposable> {
  await checkOwnPlaces(host);
  return await takeLock({ ...request, path: hostPath(host, RUN_LOCK) });
}
