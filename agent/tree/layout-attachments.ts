import { join } from 'node:path';
import { layoutBlobPath } from '../extract/oci-layout.ts';
import type { LayoutImage } from '../extract/payload.ts';
import { readPlainFile } from '../host/plain-file.ts';
import { attachedTag, formatReferrers, parseAttached, type Referrer, referrersTag } from '../model/attached.ts';
import { type Digest, digestOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { MANIFEST_LIMIT_BYTES } from '../model/manifest.ts';
import { nameOf, parseReference } from '../model/reference.ts';
import { treeBlobPath } from '../model/registry-path.ts';
import type { NamedTreeImage } from './registry-tree.ts';

/** The attachments of an image, as the tree of a registry serves them. */
export interface AttachedTree {
  readonly images: readonly NamedTreeImage[];
  /** Lists of referrers by digest. The layout need not contain them. */
  readonly lists: ReadonlyMap<Digest, string>;
}

export const NOTHING_ATTACHED: AttachedTree = { images: [], lists: new Map() };

/**
 * Reads the attachments that a sealed bundle lists for an image of a layout. Manifests are verified here, blobs when they are placed.
 * @throws PrestageError ERR_LAYOUT_BLOB, ERR_ATTACHMENT
 */
export async function readAttachments({ layout, names, attachments = [] }: LayoutImage): Promise<AttachedTree> {
  const repositories = [...new Set(names.map((name) => nameOf(parseReference(name))))];
  const read = await Promise.all(
    attachments.map(async ({ kind, subject, manifest }) => {
      const path = layoutBlobPath(layout, manifest);
      const bytes = await readPlainFile(path, MANIFEST_LIMIT_BYTES);
      if (bytes === undefined || digestOf(bytes) !== manifest) {
        throw new PrestageError(
          'ERR_LAYOUT_BLOB',
          `${path} is missing or does not match its digest`,
          'Pull the images again: complete blobs are kept',
        );
      }
      const own = parseAttached(bytes, path, { digest: subject, isNamed: kind === 'referrer' });
      return { ...own, kind, subject, manifest, sizeBytes: bytes.length };
    }),
  );
  const lists = new Map(
    [
      ...Map.groupBy(
        read.filter(({ kind }) => kind === 'referrer'),
        ({ subject }) => subject,
      ),
    ].map(([subject, some]) => {
      const referrers = some.map(
        ({ manifest: digest, sizeBytes, artifactType, annotations }): Referrer => ({
          digest,
          sizeBytes,
          artifactType,
          annotations,
        }),
      );
      return [subject, formatReferrers(referrers)] as const;
    }),
  );
  const images = read.map(({ kind, subject, manifest, config, blobs }): NamedTreeImage => {
    const tag = kind === 'referrer' ? referrersTag(subject) : attachedTag(subject, kind);
    const top = kind === 'referrer' ? digestOf(lists.get(subject) ?? '') : manifest;
    // If an image of the bundle has this tag itself, the tag stays with it.
    const tagged = repositories.map((repository) => `${repository}:${tag}`).filter((name) => !names.includes(name));
    return { names: tagged, image: { top: { digest: top }, manifest, config: config.digest, layers: blobs } };
  });
  return { images, lists: new Map([...lists.values()].map((text) => [digestOf(text), text])) };
}

/** Path of a list of referrers in a tree. */
export function listPath(to: string, digest: Digest): string {
  return join(to, treeBlobPath(digest));
}
