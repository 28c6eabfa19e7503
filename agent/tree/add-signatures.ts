import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { SourceImage } from '../extract/payload.ts';
import type { Act } from '../host/acts.ts';
import type { Host } from '../host/host.ts';
import { syncFileSystem } from '../host/sync.ts';
import type { Digest } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { nameOf, parseReference } from '../model/reference.ts';
import { signatureTag } from '../signatures/attachment.ts';
import { type ImageSignatures, readSignatures } from '../signatures/bundle-signatures.ts';
import { type NamedTreeImage, registryTree } from './registry-tree.ts';

/**
 * Adds the signatures of a bundle to a tree that was made on the node, under the tags derived from the signed digests. Existing files are not written
 * again. Damaged signatures are left out, with a warning.
 * @param to the directory that holds `docker`
 * @returns whether the tree has signatures
 */
export async function addSignatures(
  host: Host,
  { to, images, act }: { readonly to: string; readonly images: readonly SourceImage[]; readonly act: Act },
): Promise<boolean> {
  const blobs = new Map<Digest, Buffer>();
  const attached: NamedTreeImage[] = [];
  for (const { names, reference, signed } of images) {
    if (signed === undefined) continue;
    try {
      for (const found of await readSignatures(signed.bundle, signed.image)) attached.push(...treeImagesOf(found, names, blobs));
    } catch (error) {
      if (!(error instanceof PrestageError)) throw error;
      host.log('warning', `${reference} is served without its signatures: ${error.message}`);
    }
  }
  if (attached.length === 0) return false;
  const files = registryTree(attached, 'all').map((file) => ({
    path: join(to, file.path),
    content: 'blob' in file ? blobs.get(file.blob) : file.text,
  }));
  const missing: typeof files = [];
  for (const file of files) if (!(await isWritten(file))) missing.push(file);
  if (missing.length === 0) return true;
  await act('fill-tree', async () => {
    for (const { path, content } of missing) {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, content ?? '');
    }
    await syncFileSystem(host.exec, to);
  });
  return true;
}

function treeImagesOf(
  { subject, attachment }: ImageSignatures,
  names: readonly string[],
  blobs: Map<Digest, Buffer>,
): readonly NamedTreeImage[] {
  if (attachment === undefined) return [];
  for (const [digest, bytes] of attachment.blobs) blobs.set(digest, bytes);
  const { digest, manifest } = attachment;
  const tags = [...new Set(names.map((name) => `${nameOf(parseReference(name))}:${signatureTag(subject)}`))];
  return [{ names: tags, image: { top: { digest }, manifest: digest, config: manifest.config.digest, layers: manifest.signatures } }];
}

async function isWritten({ path, content }: { readonly path: string; readonly content: string | Buffer | undefined }): Promise<boolean> {
  const found = await readFile(path).catch(() => undefined);
  return found?.equals(Buffer.from(content ?? '')) === true;
}
