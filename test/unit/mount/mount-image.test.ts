import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createArchivePool } from '../../../agent/extract/pool.ts';
import type { Host } from '../../../agent/host/host.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { mountImage, openVerity } from '../../../agent/mount/mount-image.ts';
import { mountPlaced } from '../../../agent/mount/mount-placed.ts';
import type { StoreRecord } from '../../../agent/mount/store-record.ts';

let work: string;
before(async () => {
  work = await mkdtemp(join(tmpdir(), 'mount-image-'));
});
after(async () => await rm(work, { recursive: true, force: true }));

const EINVAL = 'mount: /var: wrong fs type, bad option, bad superblock on /dev/loop0, missing codepage or helper program, or other error.';
const SQUASHFS = 'SQUASHFS error: Filesystem uses "zstd" compression. This is not supported';

/** A node on which programs say this and fail, but for dmesg. */
function nodeThatSays(said: string, kernel: string | undefined): Host {
  const result = (exitCode: number, stdout: string, stderr: string): Awaited<ReturnType<Host['exec']>> => ({ exitCode, stdout, stderr });
  return {
    ...linuxHost({ root: work, env: {}, log: () => undefined }),
    exec: async (file) => {
      if (file !== 'dmesg') return result(32, '', said);
      return kernel === undefined ? result(1, '', 'dmesg: read kernel buffer failed: Operation not permitted') : result(0, kernel, '');
    },
  };
}

const failure = async (work: Promise<unknown>): Promise<string> =>
  errorRecord(
    await work.then(
      () => assert.fail(),
      (error: unknown) => error,
    ),
  ).message;

test('a store image that cannot be mounted is refused with what the kernel says of it', async () => {
  const source = { source: '/mnt/installed.squashfs', isFile: true };
  assert.equal(
    await failure(mountImage(nodeThatSays(EINVAL, `[ 1.0] ${SQUASHFS}\n[ 1.1] usb 1-1: new device\n`), source)),
    `the store image /mnt/installed.squashfs cannot be mounted: ${EINVAL} (kernel: ${SQUASHFS})`,
  );
  assert.equal(
    await failure(mountImage(nodeThatSays(EINVAL, undefined), source)),
    `the store image /mnt/installed.squashfs cannot be mounted: ${EINVAL}`,
  );
});

test('what the kernel says of dm-verity is quoted as well', async () => {
  const kernel = 'device-mapper: table: 253:0: verity: Data device is too small';
  const opening = { stage: 'installed', image: '/mnt/a', hashTree: '/mnt/b', rootHash: '0' } as const;
  assert.equal(
    await failure(openVerity(nodeThatSays('device-mapper: reload ioctl on failed: Invalid argument', `[ 9.0] ${kernel}\n`), opening)),
    `the store image /mnt/a cannot be mounted: veritysetup open: device-mapper: reload ioctl on failed: Invalid argument (kernel: ${kernel})`,
  );
});

test('an intact image that the kernel cannot mount is told with the reason of the kernel', async () => {
  const path = join(work, 'store.squashfs');
  const superblock = Buffer.alloc(32);
  superblock.write('hsqs', 'latin1');
  superblock.writeUInt16LE(6, 20);
  superblock.writeUInt16LE(4, 28);
  await writeFile(path, superblock);
  const host = nodeThatSays(EINVAL, `[ 1.0] ${SQUASHFS}\n`);
  await using pool = createArchivePool({ size: 1, log: host.log });
  const sha256 = '0'.repeat(64);
  const record: StoreRecord = {
    bootId: 'b',
    stage: 'installed',
    trust: 'hash',
    trustReason: 'asked for',
    placement: 'partition',
    image: path,
    sha256,
    sizeBytes: 32,
    verified: 'before-mount',
  };
  const image = { path, sizeBytes: 32, sha256, hashTree: path, hashTreeSizeBytes: 32, rootHash: sha256 };
  const request = { image, pool, signal: new AbortController().signal, onProgress: () => undefined };
  assert.equal(
    await failure(mountPlaced(host, { record, placed: { path, isHashed: true, hashTree: undefined }, source: path, request })),
    `the kernel of this node cannot mount the store image ${path} (squashfs 4.0 with zstd), which is intact: ${EINVAL} (kernel: ${SQUASHFS})`,
  );
});
