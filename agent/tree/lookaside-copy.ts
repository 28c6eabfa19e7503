import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { SourceSignatures } from '../extract/payload.ts';
import type { Act } from '../host/acts.ts';
import { type Host, hostPath } from '../host/host.ts';
import { removeTree } from '../host/remove-tree.ts';
import { type Digest, digestOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { LOOKASIDE_PATH } from '../model/places.ts';
import { parseReference } from '../model/reference.ts';
import { registryRepository } from '../model/registry-path.ts';
import { SIGNATURES_LIMIT } from '../signatures/attachment.ts';
import { readSignatureFile } from '../signatures/bundle-signatures.ts';
import { lookasidePath } from '../signatures/lookaside.ts';
import { noRoom } from './link-data.ts';
import { placeCopy } from './metadata-copy.ts';

/** An image that our registry answers for, and the signatures that its bundle has. */
export interface SignedSource {
  /** Full references by the names of their sources. */
  readonly names: readonly string[];
  readonly signed: SourceSignatures;
}

/** The GPG signatures of one manifest, in the repositories of our registry that have it. */
interface LookasideGroup {
  readonly bundle: string;
  readonly reference: string;
  readonly repositories: readonly string[];
  readonly subject: Digest;
  readonly files: readonly Digest[];
}

/** Largest lookaside in memory, in bytes. A signature has some 1000 bytes, and an image has one to four of them. */
const LIMIT_BYTES = 64 * 1024 * 1024;

/**
 * Copies the GPG signatures of a bundle into memory, where engines look for signatures of the images that our registry serves: a registry has no place
 * for them. Each is checked against its digest; a damaged one is left out, with a warning. If there are none, the copy of an earlier run is removed.
 * @returns whether there are any
 * @throws PrestageError ERR_SPACE_MEMORY
 */
export async function copyLookaside(host: Host, images: readonly SignedSource[], act: Act): Promise<boolean> {
  const groups = images.flatMap(groupsOf);
  if (groups.length === 0) {
    await removeLookaside(host, act);
    return false;
  }
  const identity = digestOf(JSON.stringify(groups));
  await placeCopy(host, { identity, act, at: LOOKASIDE_PATH }, async (to) => await fill(to, groups, host));
  return true;
}

/** Frees the memory of the copy. */
export async function removeLookaside(host: Host, act: Act): Promise<void> {
  const path = hostPath(host, LOOKASIDE_PATH);
  if (existsSync(path)) await act('remove-mirror', async () => await removeTree(path));
}

function groupsOf({ names, signed: { bundle, image } }: SignedSource): readonly LookasideGroup[] {
  const gpg = (image.signatures ?? []).flatMap((one) => (one.kind === 'gpg' ? [one] : []));
  const repositories = [...new Set(names.map((name) => registryRepository(parseReference(name))))];
  return [...Map.groupBy(gpg, ({ subject }) => subject)].map(([subject, own]) => ({
    bundle,
    reference: image.reference,
    repositories,
    subject,
    files: own.slice(0, SIGNATURES_LIMIT).map(({ file }) => file),
  }));
}

/** @returns whether all signatures were copied */
async function fill(to: string, groups: readonly LookasideGroup[], host: Host): Promise<boolean> {
  let faults = 0;
  let leftBytes = LIMIT_BYTES;
  for (const { bundle, reference, repositories, subject, files } of groups) {
    // Engines count from 1 until one is missing, so a signature that is left out must not leave a gap.
    let number = 0;
    for (const file of files) {
      try {
        const bytes = await readSignatureFile(bundle, file);
        leftBytes -= bytes.length * repositories.length;
        if (leftBytes < 0) throw tooMuch(bundle);
        number++;
        for (const repository of repositories) await place(join(to, lookasidePath(repository, subject, number)), bytes);
      } catch (error) {
        if (!(error instanceof PrestageError) || error.code === 'ERR_SPACE_MEMORY') throw error;
        faults++;
        host.log('warning', `${reference} is served without a GPG signature: ${error.message}`);
      }
    }
  }
  return faults === 0;
}

async function place(path: string, bytes: Buffer): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    await writeFile(path, bytes, { mode: 0o644 });
  } catch (cause) {
    throw noRoom(path, cause);
  }
}

function tooMuch(bundle: string): PrestageError {
  return new PrestageError(
    'ERR_BUNDLE_FILE',
    `the GPG signatures of ${bundle} have more than ${LIMIT_BYTES} bytes, the most that is kept in memory`,
    'Build the bundle again',
  );
}
