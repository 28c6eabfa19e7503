import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Act } from '../host/acts.ts';
import { type Host, hostPath } from '../host/host.ts';
import { removeTree } from '../host/remove-tree.ts';
import type { BundleFile } from '../model/bundle.ts';
import type { Digest } from '../model/digest.ts';
import { MIRROR_PATH } from '../model/places.ts';
import { parseReference } from '../model/reference.ts';
import { registryRepository } from '../model/registry-path.ts';
import { linkData, noRoom } from './link-data.ts';
import { type OsTree, splitOsTree } from './os-tree.ts';
import { checkLimits, copySealedFiles, type SealedFiles } from './sealed-files.ts';
import { hideImages } from './tree-check.ts';

export interface MetadataCopy extends SealedFiles {
  readonly act: Act;
}

/** Operating systems that are served with a mirror. */
interface BesideMirror {
  /** `data`: the top of its tree, by the path that the registry uses; the layers are read there. */
  readonly systems?: (OsTree & { readonly data: string }) | undefined;
}

/** A file in each complete copy, with the digest of what was copied. */
const MARKER = 'copied-from';

/**
 * Copies a metadata tree into memory and checks every file on the way, so that the registry answers with what prestage.json seals and does not need
 * the partition. Layers of operating systems that are served with it are not copied: links lead to them. Nothing is synced, because the copy does not
 * survive the boot. A complete copy of the same files is kept.
 * @throws PrestageError ERR_BUNDLE_FILE, ERR_SPACE_MEMORY
 */
export async function copyMetadataTree(host: Host, { systems, ...request }: MetadataCopy & BesideMirror): Promise<void> {
  const { files, signal, act } = request;
  const own = new Set(files.map(({ path }) => path));
  const { small, large } = splitOsTree((systems?.files ?? []).filter(({ path }) => !own.has(path)));
  checkLimits({ from: request.from, files: [...files, ...small] });
  const identity = identityOf(files, systems === undefined ? [] : [systems.data, ...systems.files]);
  await placeCopy(host, { identity, act }, async (to) => {
    await copySealedFiles(to, request, noRoom);
    if (systems !== undefined) {
      await copySealedFiles(to, { from: systems.path, files: small, signal }, noRoom);
      const paths = large.map(({ path }) => path);
      await linkData(to, systems.data, paths);
    }
    return true;
  });
}

/**
 * Puts a tree at a path in memory, MIRROR_PATH if none is given, by one rename; nothing to do if a complete tree of the same identity is there.
 * @param fill puts files into a new directory, and returns whether it is complete
 */
export async function placeCopy(
  host: Host,
  { identity, act, at = MIRROR_PATH }: { readonly identity: string; readonly act: Act; readonly at?: string },
  fill: (directory: string) => Promise<boolean>,
): Promise<void> {
  const to = hostPath(host, at);
  if ((await readFile(join(to, MARKER), 'utf8').catch(() => '')) === identity) return;
  await act('copy-mirror', async () => {
    const partial = `${to}.new`;
    await removeTree(partial);
    await mkdir(partial, { recursive: true, mode: 0o755 });
    if (await fill(partial)) await writeFile(join(partial, MARKER), identity);
    await removeTree(to);
    await rename(partial, to);
  });
}

/**
 * Removes images from the copied mirror, so that engines ask the next mirror or the source for them. Afterwards the copy does not count as complete:
 * the next run makes it again.
 */
export async function hideFromTree(
  host: Host,
  images: readonly { readonly names: readonly string[]; readonly digests: readonly Digest[] }[],
): Promise<void> {
  const mirror = hostPath(host, MIRROR_PATH);
  await rm(join(mirror, MARKER), { force: true });
  const hidden = images.flatMap(({ names, digests }) =>
    names.map(parseReference).flatMap((reference) =>
      digests.map((digest) => ({
        repository: registryRepository(reference),
        digest,
        tags: reference.tag === undefined ? [] : [reference.tag],
      })),
    ),
  );
  await hideImages(mirror, hidden);
}

/** Frees the memory of the copy. */
export async function removeTreeCopy(host: Host, act: Act): Promise<void> {
  const path = hostPath(host, MIRROR_PATH);
  if (existsSync(path)) await act('remove-mirror', async () => await removeTree(path));
}

function identityOf(files: readonly BundleFile[], beside: readonly unknown[]): string {
  return sha256Of(JSON.stringify([...files.map(({ path, sizeBytes, sha256 }) => [path, sizeBytes, sha256]), ...beside]));
}

function sha256Of(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}
