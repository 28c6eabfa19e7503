import type { Host } from '../host/host.ts';
import { hasToken } from '../storage/lock-token.ts';
import { crioAwareness } from './crio-store.ts';

const UNSEEN =
  'The store image was built by an older prestage-agent. A CRI-O that has read another such store image does not notice the new one: systemctl restart crio. A bundle that is built again does not need this';

/**
 * What a person should know of a store that was just mounted while CRI-O runs. A store image without a token of its own cannot be told from
 * another one without, and nobody can write into a mounted store image. Taken away and brought back, such an image is noticed: the empty store
 * has tokens of its own.
 */
export async function unseenExchange(
  host: Host,
  { path, wasOpen }: { readonly path: string; readonly wasOpen: boolean },
): Promise<readonly string[]> {
  if (wasOpen || (await hasToken(path)) || (await crioAwareness(host)) !== 'aware') return [];
  return [UNSEEN];
}
