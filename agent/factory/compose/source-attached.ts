import { lstat } from 'node:fs/promises';
import { layoutBlobPath } from '../../extract/oci-layout.ts';
import {
  type AttachedKind,
  type AttachedManifest,
  besideImage,
  OCI_INDEX_TYPE,
  parseAttached,
  parseReferrers,
} from '../../model/attached.ts';
import type { Digest } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import type { Descriptor } from '../../model/manifest.ts';
import type { OciEntry } from '../../model/oci-layout.ts';
import { nameOf, readReference } from '../../model/reference.ts';
import type { NamedTreeImage } from '../../tree/registry-tree.ts';
import type { NamedImage } from './source-image.ts';
import { readBlob, repositoriesOf } from './source-signatures.ts';

/** One attachment of a manifest of an image, as the layout has it. It is plain data and survives JSON. */
export interface SourceAttached {
  readonly kind: AttachedKind;
  /** The manifest that it belongs to. */
  readonly subject: Digest;
  readonly artifactType: string;
  /** The tag that leads to it, and the manifest under that tag: its own, or the list of referrers. */
  readonly tag: string;
  readonly top: Descriptor;
  /** Of its own manifest, with its size in bytes. */
  readonly manifest: Digest;
  readonly sizeBytes: number;
  readonly config: Digest;
  /** Config and layers, each once. */
  readonly blobs: readonly Descriptor[];
}

/** Finds the tags of attachments in a layout, by the manifest that the tags name. Prefers tags in a repository of the image. */
export type FindAttached = (repositories: readonly string[], subject: Digest) => readonly FoundTag[];

interface FoundTag {
  readonly kind: AttachedKind;
  readonly tag: string;
  readonly entry: OciEntry;
}

const PULL_AGAIN = 'Pull the images again: complete blobs are kept';

/** Pure. */
export function attachedFinder(entries: readonly OciEntry[]): FindAttached {
  const found = new Map<Digest, (FoundTag & { readonly repository: string })[]>();
  for (const entry of entries) {
    const reference = readReference(entry.reference);
    if (typeof reference === 'string' || reference.tag === undefined) continue;
    const { kind, subject } = besideImage(reference.tag, entry.digest) ?? {};
    if (subject === undefined || kind === undefined || kind === 'sig') continue;
    if (kind === 'list' && entry.mediaType !== OCI_INDEX_TYPE) continue;
    const one = { kind: kind === 'list' ? ('referrer' as const) : kind, tag: reference.tag, entry, repository: nameOf(reference) };
    found.set(subject, [...(found.get(subject) ?? []), one]);
  }
  return (repositories, subject) => {
    const byTag = Map.groupBy(found.get(subject) ?? [], ({ tag }) => tag);
    return [...byTag.values()].flatMap((some) => some.find(({ repository }) => repositories.includes(repository)) ?? some.slice(0, 1));
  };
}

/**
 * Reads the attachments of an image: those of the manifest that its names lead to, and of the instance for the bundle's architecture.
 * @throws PrestageError ERR_LAYOUT_BLOB, ERR_ATTACHMENT
 */
export async function readSourceAttached(
  layout: string,
  { names, image }: Pick<NamedImage, 'names' | 'image'>,
  find: FindAttached,
): Promise<readonly SourceAttached[]> {
  const all: SourceAttached[] = [];
  for (const subject of new Set([image.top.digest, image.manifest])) {
    for (const { kind, tag, entry } of find(repositoriesOf(names), subject)) {
      const { digest, reference, sizeBytes, mediaType } = entry;
      const isList = kind === 'referrer';
      const listed = isList ? parseReferrers(await readBlob(layout, digest), reference).map((one) => one.digest) : [digest];
      for (const manifest of listed) {
        const bytes = await readBlob(layout, manifest);
        const parsed = parseAttached(bytes, `${reference}, ${manifest},`, { digest: subject, isNamed: isList });
        await requireBlobs(layout, parsed, manifest);
        const { artifactType, config, blobs } = parsed;
        const own = { manifest, sizeBytes: bytes.length, config: config.digest, blobs };
        all.push({ kind, subject, artifactType, tag, top: { digest, sizeBytes, mediaType }, ...own });
      }
    }
  }
  return all;
}

async function requireBlobs(layout: string, { blobs }: AttachedManifest, manifest: Digest): Promise<void> {
  for (const { digest, sizeBytes } of blobs) {
    const path = layoutBlobPath(layout, digest);
    const found = await lstat(path).catch(() => undefined);
    if (found?.isFile() && found.size === sizeBytes) continue;
    throw new PrestageError(
      'ERR_LAYOUT_BLOB',
      `${path} is not a plain file of ${sizeBytes} bytes, as the attachment ${manifest} requires`,
      PULL_AGAIN,
    );
  }
}

/** All blobs of attachments, with their sizes in bytes, each once. Pure. */
export function attachedBlobs(images: readonly NamedImage[]): ReadonlyMap<Digest, number> {
  const all = images.flatMap(({ attached = [] }) =>
    attached.flatMap(({ top, manifest, sizeBytes, blobs }) => [top, { digest: manifest, sizeBytes }, ...blobs]),
  );
  return new Map(all.map(({ digest, sizeBytes }) => [digest, sizeBytes]));
}

/** Attachments as a registry without a call for referrers serves them: under their tags, in every repository of the image. Pure. */
export function attachedTreeImages(images: readonly NamedImage[]): readonly NamedTreeImage[] {
  return images.flatMap((image) =>
    (image.attached ?? []).map(
      (one): NamedTreeImage => ({
        names: namesOf(image, one),
        image: { top: { digest: one.top.digest }, manifest: one.manifest, config: one.config, layers: one.blobs },
      }),
    ),
  );
}

/** Attachments as the index of an OCI image layout names them. Pure. */
export function attachedEntries(images: readonly NamedImage[]): readonly OciEntry[] {
  const all = images.flatMap((image) =>
    (image.attached ?? []).flatMap((one) => namesOf(image, one).map((reference) => [reference, { reference, ...one.top }] as const)),
  );
  return [...new Map(all).values()];
}

/** An image can itself have the tag of a list of referrers; the image keeps it. */
function namesOf({ names }: NamedImage, { tag }: SourceAttached): readonly string[] {
  return repositoriesOf(names)
    .map((repository) => `${repository}:${tag}`)
    .filter((name) => !names.includes(name));
}
