import { lstat, stat } from 'node:fs/promises';
import { type Host, hostPath } from '../host/host.ts';
import { digestOf } from '../model/digest.ts';
import { STORE_PATH } from '../model/places.ts';
import { mountsAt } from './mounted.ts';
import { readOpenStore, type StoreRecord } from './store-record.ts';

/** The open store at one moment. */
export interface CheckTarget {
  readonly record: StoreRecord;
  /**
   * Equal if two looks saw the same store: the same boot, the same opening, the same mount of the same file. The number of a mount is not enough,
   * because the kernel uses it again; nor is that of a file, because a file system that is written again has the same numbers.
   */
  readonly identity: string;
  /** Device and inode of the image; undefined if the file cannot be looked at. */
  readonly file: string | undefined;
}

/** Looks at the store that is open; undefined if there is none. Changes nothing. */
export async function findCheckTarget(host: Host): Promise<CheckTarget | undefined> {
  const record = await readOpenStore(host);
  const mount = (await mountsAt(hostPath(host, STORE_PATH))).at(-1);
  if (record === undefined || mount === undefined) return undefined;
  const file = await stat(record.image, { bigint: true }).then(
    ({ dev, ino }) => `${dev}:${ino}`,
    () => undefined,
  );
  const { bootId, opening, sha256, image } = record;
  const identity = digestOf(JSON.stringify([bootId, opening, sha256, image, mount.id, mount.number, mount.source, file]));
  return { record, identity, file };
}

/** Whether the path of the image still names the same file. */
export async function isSameFile({ record, file }: CheckTarget): Promise<boolean> {
  const found = await lstat(record.image, { bigint: true }).catch(() => undefined);
  return found !== undefined && `${found.dev}:${found.ino}` === file;
}
