import { cp, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf, hexOf } from '../../agent/model/digest.ts';
import { CHECK_RECORD } from '../../agent/model/places.ts';
import { unsealRecord } from '../../agent/model/seal.ts';
import { waitFor } from './agent.ts';
import type { NodeSandbox } from './sandbox.ts';

/** So long that hashing it takes minutes; nearly all of it is a hole, which takes no room. */
const LONG_BYTES = 2 ** 36;

/** Copies a bundle to another directory, there with store images that mount as before and take minutes to check. */
export async function makeLongBundle(bundle: string, directory: string): Promise<void> {
  await cp(bundle, directory, { recursive: true });
  await lengthenStores(directory);
}

/**
 * Makes the store images of a bundle that lies in a directory long: the kernel does not look at what comes after a squashfs. Their sha256 in the
 * manifest is another one then, which nobody comes to compare. The same manifest gives the same bytes.
 */
export async function lengthenStores(directory: string): Promise<void> {
  const path = join(directory, 'prestage.json');
  const manifest: {
    readonly files: readonly { readonly path: string; readonly sha256: string }[];
    readonly payloads: readonly { readonly kind: string; readonly image?: string; readonly pieces?: unknown }[];
  } = JSON.parse(await readFile(path, 'utf8'));
  const images = manifest.payloads.flatMap(({ image }) => (image === undefined ? [] : [image]));
  for (const image of images) await truncate(join(directory, image), LONG_BYTES);
  const files = manifest.files.map((file) =>
    images.includes(file.path) ? { ...file, sizeBytes: LONG_BYTES, sha256: hexOf(digestOf(file.sha256)) } : file,
  );
  const payloads = manifest.payloads.map((payload) => ({ ...payload, pieces: undefined }));
  await writeFile(path, JSON.stringify({ ...manifest, files, payloads }));
}

/** The process, as the node numbers it, that checks the store image of a node; waits until it is at work. */
export async function checkAtWork(node: Pick<NodeSandbox, 'path'>): Promise<number> {
  return await waitFor('the check', async () => {
    const text = await readFile(node.path(CHECK_RECORD), 'utf8').catch(() => undefined);
    const pid = text === undefined ? undefined : unsealRecord(text)?.pid;
    return typeof pid === 'number' ? pid : undefined;
  });
}

/** Whether a process of a node lives. */
export async function isAlive(node: Pick<NodeSandbox, 'exec'>, pid: number): Promise<boolean> {
  return (await node.exec('kill', ['-0', String(pid)])).exitCode === 0;
}
