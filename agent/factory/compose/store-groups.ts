import type { Part } from './plan.ts';
import type { NamedImage } from './source-image.ts';

/**
 * Groups of parts in the order in which they are made. Stores that can be packed from one storage form a group, so that a shared image is
 * unpacked once. A store is the same file whether it is packed alone or in a group. Pure.
 */
export function makingGroups(parts: readonly Part[]): readonly (readonly Part[])[] {
  const stores = parts.filter(({ kind }) => kind === 'store');
  const areTogether = stores.length > 1 && isOneStorage(stores.map(({ images }) => images));
  const others = parts.filter((part) => !areTogether || part.kind !== 'store').map((part) => [part]);
  return areTogether ? [stores, ...others] : others;
}

/**
 * Whether lists can be unpacked into one storage without any effect on the stores. A record of an image has the manifests and signatures of all
 * entries that lead to it; a layer keeps the digest of the compressed form that came first. So lists must agree on both for everything they share.
 */
function isOneStorage(lists: readonly (readonly NamedImage[])[]): boolean {
  const [records, layers] = [new Map<string, string>(), new Map<string, string>()];
  return lists.every((images) => agrees(records, recordsOf(images)) && agrees(layers, firstLayersOf(images)));
}

/** Compares found values with known ones, and adds new ones. */
function agrees(known: Map<string, string>, found: ReadonlyMap<string, string>): boolean {
  for (const [name, what] of found) {
    if ((known.get(name) ?? what) !== what) return false;
    known.set(name, what);
  }
  return true;
}

/** By config, the parts of a record that come from the entries that lead to it. Names depend on the list and are written for each store. */
function recordsOf(images: readonly NamedImage[]): ReadonlyMap<string, string> {
  const entries = Map.groupBy(images, ({ image }) => image.config);
  const describe = ({ image, signatures = [] }: NamedImage): unknown => [image.top.digest, image.manifest, signatures];
  return new Map([...entries].map(([config, group]) => [config, JSON.stringify(group.map(describe))]));
}

/** By the chain of unpacked layers, the digest of the first compressed layer. */
function firstLayersOf(images: readonly NamedImage[]): ReadonlyMap<string, string> {
  const first = new Map<string, string>();
  for (const { image } of images) {
    image.layers.forEach(({ digest }, index) => {
      const chain = image.diffIds.slice(0, index + 1).join(' ');
      if (!first.has(chain)) first.set(chain, digest);
    });
  }
  return first;
}
