import { RUN_LOCK } from '../model/places.ts';
import { removeTemporaries } from './atomic.ts';
import { type Host, hostPath } from './host.ts';
import { type LockRequest, takeLock } from './lock.ts';
import { checkOwnPlaces, OWN_PLACES } from './own-places.ts';

/**
 * Takes the lock of the one command that changes what the agent keeps on a node, once its directories are known to be its own. What commands
 * that were killed had not put into place there is removed.
 * @throws PrestageError ERR_PLACE, ERR_LOCKED
 */
export async function takeRunLock(host: Host, request: Omit<LockRequest, 'path'>): Promise<AsyncDisposable> {
  await checkOwnPlaces(host);
  await using stack = new AsyncDisposableStack();
  stack.use(await takeLock({ ...request, path: hostPath(host, RUN_LOCK) }));
  for (const place of OWN_PLACES) await removeTemporaries(hostPath(host, place));
  return stack.move();
}
