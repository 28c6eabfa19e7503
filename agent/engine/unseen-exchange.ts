import type { Host } from '../host/host.ts';
import { hasToken } from '../storage/lock-token.ts';
import { crioAwareness } from './crio-store.ts';

const UNSEEN =
  'The store image was built by an older prestage-agent. A CRI-O that has read another such store image does not notice the new one: systemctl restart crio. To avoid this, build the bundle again';

/**
 * Notices about a store that was just mounted while CRI-O runs. CRI-O cannot tell apart two store images that have no tokens of their own, and a token
 * cannot be written into a mounted store image. If such an image is unmounted and mounted again, CRI-O notices it: the empty store in between has
 * tokens of its own.
 */
export async function unseenExchange(
  host: Host,
  { path, wasOpen }: { readonly path: string; readonly wasOpen: boolean },
): Promise<readonly string[]> {
  if (wasOpen || (await hasToken(path)) || (await crioAwareness(host)) !== 'aware') return [];
  return [UNSEEN];
}
