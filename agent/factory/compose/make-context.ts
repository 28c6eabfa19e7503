import type { Act } from '../../host/acts.ts';
import type { Host } from '../../host/host.ts';
import type { Digest } from '../../model/digest.ts';
import { registryTree } from '../../tree/registry-tree.ts';
import type { TreeFile } from '../../tree/tree-files.ts';
import type { BuildFolders } from './options.ts';
import type { BuildFacts } from './plan.ts';
import type { NamedImage } from './source-image.ts';
import { signatureTreeImages } from './source-signatures.ts';

/** Context that is shared by the making of all parts of a build. */
export interface MakeContext extends BuildFolders {
  readonly host: Host;
  readonly facts: BuildFacts;
  readonly jobs: number;
  readonly act: Act;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

/** Results of making a part, besides its files. */
export interface Made {
  readonly rootHash?: string;
  readonly registryImage?: string;
  /** Unpacked sizes that became known, by digest. */
  readonly unpackedBytes?: ReadonlyMap<Digest, number>;
}

/** The tree of images with their signatures; signatures are complete in every tree. */
export function servedTree(images: readonly NamedImage[], content: 'all' | 'metadata'): readonly TreeFile[] {
  return [...registryTree(images, content), ...registryTree(signatureTreeImages(images), 'all')];
}
