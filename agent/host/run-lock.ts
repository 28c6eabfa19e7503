import { RUN_LOCK } from '../model/places.ts';
import { removeTemporaries } from './atomic.ts';
import { type Host, hostPath } from './host.ts';
import { type LockRequest, takeLock } from './lock.ts';
import { checkOwnPlaces, OWN_PLACES } from './own-places.ts';

/**
 * Takes the lock of the one command that changes the files of the agent on a node, after a check that its directories are its own. Then removes
 * temporary files of killed commands there.
 * @throws PrestageError ERR_PLACE, ERR_LOCKED
 */
export async function takeRunLock(host: Host, request: Omit<LockRequest, 'path'>): Promise<AsyncDisposable> {
  await checkOwnPlaces(host);
  await using stack = new AsyncDisposableStack();
  stack.use(await takeLock({ ...request, path: hostPath(host, RUN_LOCK) }));
  for (const place of OWN_PLACES) await removeTemporaries(hostPath(host, place));
  return stack.move();
}
