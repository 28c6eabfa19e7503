import { layoutBlobPath } from '../../extract/oci-layout.ts';
import type { Digest } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { parseReference } from '../../model/reference.ts';
import { readLayer, removes } from '../images/layer-files.ts';
import { IMAGE_REFERENCES, parseImageReferences } from '../images/release.ts';
import { isRelease } from './describe-images.ts';
import type { NamedImage } from './source-image.ts';

/** The list of OpenShift 4.15, with 190 components and their annotations, has 120 KB. */
const REFERENCES_LIMIT_BYTES = 16 * 1024 * 1024;

/** Names of components by their digests in releases. */
export type Components = ReadonlyMap<Digest, readonly string[]>;

/**
 * Reads the names that the releases among images give to their components. The list is in one of the uppermost layers of a release image, so these are
 * read first, each checked against its digest. A release without a list names none.
 * @param directory an OCI image layout
 * @throws PrestageError ERR_RELEASE, ERR_SOURCE, ERR_LAYOUT_BLOB
 */
export async function readComponents(directory: string, images: readonly NamedImage[]): Promise<Components> {
  const releases = new Map(images.filter(isRelease).map((release) => [release.image.manifest, release]));
  const named: { readonly digest: Digest; readonly component: string }[] = [];
  for (const release of releases.values()) named.push(...(await componentsOf(directory, release)));
  return new Map([...Map.groupBy(named, ({ digest }) => digest)].map(([digest, group]) => [digest, group.map((one) => one.component)]));
}

/** The image with its component names in releases, by its own digest or that of its list. Pure. */
export function withComponents(image: NamedImage, components: Components): NamedImage {
  const { top, manifest } = image.image;
  const names = new Set([top.digest, manifest].flatMap((digest) => components.get(digest) ?? []));
  return names.size === 0 ? image : { ...image, components: [...names] };
}

async function componentsOf(
  directory: string,
  { reference, image }: NamedImage,
): Promise<readonly { readonly digest: Digest; readonly component: string }[]> {
  const text = await referencesOf(directory, image);
  if (text === undefined) return [];
  return parseReferences(text, `${IMAGE_REFERENCES} of ${reference}`).flatMap((one) => {
    const { digest } = parseReference(one.reference);
    return digest === undefined || one.component === undefined ? [] : [{ digest, component: one.component }];
  });
}

async function referencesOf(directory: string, { layers }: NamedImage['image']): Promise<string | undefined> {
  const wants = (path: string): boolean => path === IMAGE_REFERENCES;
  for (const { digest } of layers.toReversed()) {
    const change = await readLayer(layoutBlobPath(directory, digest), { wants, fileLimitBytes: REFERENCES_LIMIT_BYTES, digest });
    const text = change.files.get(IMAGE_REFERENCES);
    if (text !== undefined) return text;
    if (removes(change, IMAGE_REFERENCES)) return undefined;
  }
  return undefined;
}

function parseReferences(text: string, where: string): ReturnType<typeof parseImageReferences>['images'] {
  try {
    return parseImageReferences(text, where).images;
  } catch (error) {
    if (!(error instanceof PrestageError)) throw error;
    throw new PrestageError(error.code, error.message, 'Pull the release image again, or take it off the lists', { cause: error });
  }
}
