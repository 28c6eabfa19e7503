import { mkdtemp, open, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { hexOf } from '../../../agent/model/digest.ts';
import { editData } from '../disk.ts';
import type { Bundle } from '../factory.ts';
import type { Trial } from '../trial.ts';

/** What an exchanged executable would leave on the node if it ran. */
export const EXCHANGED_RAN = '/run/was-run';

/** A disk image that holds the bundle as the factory wrote it. */
export async function disk(trial: Trial, bundle: Bundle, name = 'disk.img'): Promise<string> {
  return await trial.factory.disk(trial.work, name, bundle);
}

/** A disk image of which something was changed after it was written. */
export async function damaged(trial: Trial, bundle: Bundle, damage: (top: string, bundle: Bundle) => Promise<void>): Promise<string> {
  const image = await disk(trial, bundle);
  await editData(image, (top) => damage(top, bundle));
  return image;
}

/** Changes one byte in the layer that only the image `whiteouts` has. */
export async function spoilLayer(top: string, { set }: Bundle): Promise<void> {
  const layer = set.images.whiteouts.instances[0]?.layers.at(-1);
  if (layer === undefined) throw new Error('the image has no layer');
  await flipByte(join(top, 'oci/blobs/sha256', hexOf(layer.digest)));
}

/** Changes one byte of the archive of the image `whiteouts`. */
export async function spoilArchive(top: string, { set }: Bundle): Promise<void> {
  const names = await readdir(join(top, 'archives'));
  const name = names.find((each) => each.includes(hexOf(set.images.whiteouts.digest)));
  if (name === undefined) throw new Error(`no archive of ${set.images.whiteouts.reference} among ${names.join(', ')}`);
  await flipByte(join(top, 'archives', name));
}

const STORE = 'store/discovery.squashfs';

/** Changes one byte of the store image. */
export async function spoilStore(top: string): Promise<void> {
  await flipByte(join(top, STORE));
}

/** Changes the first byte of the store image, by which the kernel knows a squashfs. */
export async function spoilSuperblock(top: string): Promise<void> {
  await flipByte(join(top, STORE), 0);
}

/** Changes one byte of the store image of the installed stage; done twice, it is whole again. */
export async function spoilInstalledStore(top: string): Promise<void> {
  await flipByte(join(top, 'store/installed.squashfs'));
}

/** Puts a squashfs of somebody else in the place of the store image, which mounts and has the same size. */
export async function exchangeStore(top: string): Promise<void> {
  const image = join(top, STORE);
  const { size } = await stat(image);
  const tree = await mkdtemp(join(top, 'other-'));
  await writeFile(join(tree, 'file'), 'not of the factory\n');
  await output(execOnLinux, 'mksquashfs', [tree, image, '-noappend', '-quiet']);
  await truncate(image, size);
  await rm(tree, { recursive: true });
}

/** Puts a program of somebody else in the place of the executable. */
export async function exchangeExecutable(top: string): Promise<void> {
  await writeFile(join(top, 'prestage-agent'), `#!/bin/sh\ntouch ${EXCHANGED_RAN}\n`, { mode: 0o755 });
}

/** Changes one byte of a file; the same once more brings it back. @param at its offset; that of the middle where left out */
export async function flipByte(path: string, at?: number): Promise<void> {
  const { size } = await stat(path);
  await using file = await open(path, 'r+');
  const place = at ?? Math.floor(size / 2);
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, place);
  await file.write(Buffer.from([(buffer[0] ?? 0) ^ 0xff]), 0, 1, place);
}
