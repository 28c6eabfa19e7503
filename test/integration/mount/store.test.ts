import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { appendFile, cp, mkdir, mkdtemp, open, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { plainAct } from '../../../agent/host/acts.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import type { StorePieces } from '../../../agent/model/bundle.ts';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { DATA_PATH, DISK_COPY_PATH, MIRROR_PATH, RAM_PATH, STORE_PATH, STORE_RECORD } from '../../../agent/model/places.ts';
import { sealRecord, unsealRecord } from '../../../agent/model/seal.ts';
import { dropDamagedCopy, hashStore, isStillOpen, recordIntact, type StoreCheck } from '../../../agent/mount/check-store.ts';
import { type CheckTarget, findCheckTarget } from '../../../agent/mount/check-target.ts';
import { closeStore } from '../../../agent/mount/close-store.ts';
import { ensureEmptyStore } from '../../../agent/mount/empty-store.ts';
import { readOpenStore } from '../../../agent/mount/store-record.ts';
import { storeUndoSteps } from '../../../agent/mount/undo-store.ts';
import { mountPointsBelow } from '../../support/agent.ts';
import { hashesBelow, storesUnavailable } from '../../support/build.ts';
import { inOwnMounts } from '../../support/own-mounts.ts';
import { piecesOf } from '../../support/pieces.ts';
import {
  copyStoreBundle,
  flipByte,
  loopsBelow,
  makeStoreBundle,
  makeStoreRoot,
  namesIn,
  replaceByDirectory,
  replaceByLink,
  restrictionsAt,
  type StoreBundle,
  type StoreRoot,
  treeStamp,
} from '../../support/store-bundle.ts';

inOwnMounts(import.meta.url);

const unavailable = storesUnavailable();
const signal = new AbortController().signal;
const force = true;

describe('a store image', () => {
  let work: string;
  let first: StoreBundle;
  let second: StoreBundle;
  let smallPieces: StorePieces;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'mount-'));
    if (unavailable !== undefined) return;
    first = await makeStoreBundle(join(work, 'first'), 2);
    smallPieces = piecesOf(await readFile(first.image.path), 4096);
    second = await makeStoreBundle(join(work, 'second'), 3);
  });
  after(async () => {
    for (const point of (await mountPointsBelow(work)).toReversed()) await execOnLinux('umount', ['--lazy', point]);
    await rm(work, { recursive: true, force: true });
  });
  const onNode = (what: string, act: (node: StoreRoot) => Promise<void>): void => {
    it(what, async (t) => {
      if (unavailable !== undefined) return t.skip(unavailable);
      await using node = await makeStoreRoot(work);
      await act(node);
    });
  };

  onNode('is mounted from the partition, through a read-only bind, and podman lists its images', async (node) => {
    const before = await treeStamp(first.directory);
    const opened = await node.open(first);
    const image = join(node.path(DATA_PATH), 'store/installed.squashfs');
    assert.deepEqual(opened, {
      trust: 'background',
      trustReason: 'the kernel has no device-mapper; the image is usable at once and hashed while the boot continues',
      placement: 'partition',
      path: node.path(STORE_PATH),
      image,
      sha256: first.image.sha256,
      verified: 'pending',
      wasOpen: false,
      servesFromPartition: true,
      notices: [],
    });
    assert.deepEqual([await node.listed(), await node.mounts()], [2, [DATA_PATH, STORE_PATH]]);
    await assert.rejects(writeFile(join(node.path(DATA_PATH), 'x'), ''), { code: 'EROFS' });
    assert.deepEqual(await restrictionsAt(node.path(DATA_PATH)), ['nodev', 'noexec', 'nosuid', 'ro']);
    assert.deepEqual(await restrictionsAt(node.path(STORE_PATH)), ['nodev', 'noexec', 'nosuid', 'ro']);
    assert.deepEqual(await treeStamp(first.directory), before);
  });

  onNode('is copied to memory in discovery, hashed on the way, and nothing holds the bundle afterwards', async (node) => {
    const progress: number[] = [];
    const opened = await node.open(first, { stage: 'discovery', onProgress: (bytes) => progress.push(bytes) });
    const { trust, placement, verified, image, servesFromPartition } = opened;
    assert.deepEqual(
      { trust, placement, verified, image, servesFromPartition, progress: progress.at(-1) },
      {
        trust: 'hash',
        placement: 'ram',
        verified: 'before-mount',
        image: join(node.path(RAM_PATH), 'store.squashfs'),
        servesFromPartition: false,
        progress: first.image.sizeBytes,
      },
    );
    assert.deepEqual([await node.listed(), await node.mounts()], [2, [RAM_PATH, STORE_PATH]]);
    assert.deepEqual(await loopsBelow(first.directory), []);
    const used = (await output(execOnLinux, 'du', ['-sB1', node.path(RAM_PATH)])).split('\t')[0];
    assert.ok(Number(used) <= first.image.sizeBytes + 4096, `${used} bytes of memory`);
  });

  onNode('is copied to the disk, where it opens again without the bundle, and the copy of the release before goes', async (node) => {
    const request = { placement: 'disk' } as const;
    await node.open(second, request);
    assert.deepEqual((await node.open(first, request)).verified, 'before-mount');
    assert.deepEqual(await readdir(node.path(DISK_COPY_PATH)), [`${first.image.sha256}.squashfs`]);
    assert.deepEqual([await node.listed(), await node.mounts()], [2, [STORE_PATH]]);
    await closeStore(node.host, { act: plainAct, force: false });
    const gone = { ...first, directory: join(work, 'gone'), image: { ...first.image, path: join(work, 'gone/x.squashfs') } };
    const again = await node.open(gone, request);
    assert.deepEqual([again.trust, again.verified, await node.listed()], ['background', 'pending', 2]);
  });

  onNode('whose copy on the disk is damaged is copied again where it is hashed before', async (node) => {
    const request = { placement: 'disk', trust: 'hash' } as const;
    const { image } = await node.open(first, request);
    await closeStore(node.host, { act: plainAct, force: false });
    await flipByte(image);
    const opened = await node.open(first, request);
    assert.deepEqual([opened.verified, (await hashOpen(node)).found], ['before-mount', { kind: 'intact' }]);
    assert.match(
      node.messages.join('\n'),
      /warning: .*\.squashfs (?:does not match its bundle: its piece at byte \d+ has|has) the sha256 [0-9a-f]{64}, but (?:should have|its bundle says) [0-9a-f]{64}; the image is copied again/,
    );
  });

  onNode('that is open already is left as it is', async (node) => {
    await node.open(first);
    const before = await execOnLinux('findmnt', ['-n', '-o', 'SOURCE', node.path(STORE_PATH)]);
    const again = await node.open(first, { act: async (name) => assert.fail(`act ${name}`) });
    assert.deepEqual([again.wasOpen, await execOnLinux('findmnt', ['-n', '-o', 'SOURCE', node.path(STORE_PATH)])], [true, before]);
  });

  onNode('that is open and was not hashed yet is opened again by who asks for its hash', async (node) => {
    await node.open(first);
    const again = await node.open(first, { trust: 'hash' });
    assert.deepEqual([again.wasOpen, again.trust, again.verified], [false, 'hash', 'before-mount']);
    assert.equal((await node.open(first)).wasOpen, true);
  });

  onNode('takes the place of that of another release', async (node) => {
    await node.open(first);
    const opened = await node.open(second);
    assert.deepEqual([opened.wasOpen, opened.sha256, await node.listed()], [false, second.image.sha256, 3]);
    assert.deepEqual(await node.mounts(), [DATA_PATH, STORE_PATH]);
  });

  onNode('does not take the place of one that is in use: that stays, whole', async (node) => {
    await node.open(first);
    await using _inUse = await open(join(node.path(STORE_PATH), 'overlay-images/images.json'));
    const error = errorRecord(await node.open(second).catch((thrown: unknown) => thrown));
    const path = node.path(STORE_PATH);
    assert.deepEqual(error, {
      code: 'ERR_STORE_BUSY',
      message: `${path} cannot be unmounted, because it is in use: umount: ${path}: target is busy.`,
      remedy: `Stop what uses it, then run the command again: fuser -vm ${path} lists programs, podman ps and crictl ps list containers`,
    });
    assert.deepEqual([(await readOpenStore(node.host))?.sha256, await node.listed()], [first.image.sha256, 2]);
  });

  for (const placement of ['ram', 'partition', 'disk'] as const) {
    onNode(`that a container runs from stays open, until it is closed by force (${placement})`, async (node) => {
      await node.open(first, { placement });
      await using container = await overlayOver(node);
      const error = errorRecord(await node.open(second, { placement }).catch((thrown: unknown) => thrown));
      assert.equal(error.code, 'ERR_STORE_BUSY');
      assert.match(
        error.message,
        /^the store at .* \(\/dev\/loop\d+\) cannot be closed, because containers use it: its loop device stays in use$/,
      );
      assert.deepEqual([(await readOpenStore(node.host))?.sha256, await node.listed()], [first.image.sha256, 2]);
      await closeStore(node.host, { act: plainAct, force });
      assert.deepEqual([await node.listed(), await node.mounts()], [0, [container.path]]);
      assert.deepEqual(await readdir(join(node.path(container.path), 'etc')), ['base']);
      assert.equal((await node.open(second, { placement })).wasOpen, false);
    });
  }

  onNode('in use is closed by force, and an empty store is seen at once', async (node) => {
    await node.open(first);
    await using _inUse = await open(join(node.path(STORE_PATH), 'overlay-images/images.json'));
    await closeStore(node.host, { act: plainAct, force });
    assert.deepEqual([await node.listed(), await node.mounts(), await readOpenStore(node.host)], [0, [], undefined]);
  });

  for (const [what, damage, code, message] of [
    ['with another byte', flipByte, 'ERR_STORE_DIGEST', / has the sha256 [0-9a-f]{64}, but (?:should have|its bundle says) [0-9a-f]{64}$/],
    ['that was cut off', (path: string) => truncate(path, 8192), 'ERR_STORE_DIGEST', /has 8192 bytes, but its bundle says \d+$/],
    ['that has grown', (path: string) => appendFile(path, 'x'), 'ERR_STORE_DIGEST', /has \d+ bytes, but its bundle says \d+$/],
    ['that is missing', (path: string) => rm(path), 'ERR_BUNDLE_FILE', /cannot be read: it does not exist$/],
    ['that is a directory', replaceByDirectory, 'ERR_BUNDLE_FILE', /cannot be read: it is not a plain file$/],
    ['that leads out of the bundle', replaceByLink, 'ERR_BUNDLE_FILE', /its path leads to \/etc\/passwd, by a link or out of the bundle /],
  ] as const) {
    for (const [placement, hashed] of [
      ['ram', 'in pieces'],
      ['disk', 'in pieces'],
      ['partition', 'in pieces'],
      ['ram', 'as a whole'],
      ['disk', 'as a whole'],
      ['partition', 'as a whole'],
    ] as const) {
      onNode(`${what} is not opened (${placement}, hashed ${hashed}): an empty store is there, and nothing stays mounted`, async (node) => {
        const bundle = await copyStoreBundle(first, join(work, `damaged-${placement}`));
        await damage(bundle.image.path);
        const image = { ...bundle.image, pieces: hashed === 'in pieces' ? smallPieces : undefined };
        const request = { image, placement, trust: 'hash' } as const;
        const error = errorRecord(await node.open(bundle, request).catch((thrown: unknown) => thrown));
        assert.equal(error.code, code, error.message);
        assert.match(error.message, message);
        assert.deepEqual([await node.listed(), await node.mounts(), await loopsBelow(bundle.directory)], [0, [], []]);
        assert.deepEqual([existsSync(node.path(STORE_RECORD)), await namesIn(node.path(DISK_COPY_PATH))], [false, []]);
      });
    }
  }

  onNode('whose pieces are known is opened at every place with all of them hashed, and read as before', async (node) => {
    const image = { ...first.image, pieces: smallPieces };
    assert.ok(smallPieces.sha256.length > 2, `${smallPieces.sha256.length} pieces`);
    for (const placement of ['ram', 'disk', 'partition', 'disk'] as const) {
      const progress: number[] = [];
      const opened = await node.open(first, { image, placement, trust: 'hash', onProgress: (bytes) => progress.push(bytes) });
      assert.deepEqual([opened.verified, await node.listed()], ['before-mount', 2]);
      assert.equal(progress.at(-1), image.sizeBytes);
      assert.equal(await sha256OfFile(opened.image), image.sha256);
    }
  });

  onNode('that is no file system is not mounted, and its copy is not kept', async (node) => {
    const directory = join(work, 'nonsense');
    await mkdir(join(directory, 'store'), { recursive: true });
    const path = join(directory, 'store/installed.squashfs');
    await writeFile(path, Buffer.alloc(65536));
    const sha256 = (await hashesBelow(directory))['store/installed.squashfs'] ?? '';
    const bundle = { directory, image: { ...first.image, path, sha256, sizeBytes: 65536, pieces: undefined } };
    for (const placement of ['ram', 'disk', 'partition'] as const) {
      const error = errorRecord(await node.open(bundle, { placement }).catch((thrown: unknown) => thrown));
      assert.equal(error.code, 'ERR_STORE_MOUNT', error.message);
      assert.match(error.message, /the store image .* cannot be mounted: it is not a squashfs: mount: .*wrong fs type/);
      assert.deepEqual([await node.listed(), await node.mounts(), await namesIn(node.path(DISK_COPY_PATH))], [0, [], []]);
    }
  });

  onNode('that does not fit into memory is not copied, and both figures are named', async (node) => {
    const bundle = await copyStoreBundle(first, join(work, 'huge'));
    await truncate(bundle.image.path, 2 ** 42);
    const huge = { ...bundle, image: { ...bundle.image, sizeBytes: 2 ** 42 } };
    const error = errorRecord(await node.open(huge, { placement: 'ram' }).catch((thrown: unknown) => thrown));
    assert.equal(error.code, 'ERR_SPACE_MEMORY');
    assert.match(
      error.message,
      /^the store image needs 4\.0 TiB of memory and \d+\.\d [GM]iB must stay free, but only \d+\.\d [GM]iB is available$/,
    );
    const onDisk = errorRecord(await node.open(huge, { placement: 'disk' }).catch((thrown: unknown) => thrown));
    assert.equal(onDisk.code, 'ERR_SPACE_STORE');
    assert.deepEqual([await node.listed(), await node.mounts()], [0, []]);
    // It fits, and the reserve that is asked for does not.
    const reserved = await node.open(first, { placement: 'ram', memoryReserveBytes: 2 ** 50 }).catch((thrown: unknown) => thrown);
    assert.match(errorRecord(reserved).message, /of memory and 1\.0 PiB must stay free|of memory and 1024\.0 TiB must stay free/);
    const onMedium = { placement: 'auto', isMedium: true, stage: 'discovery', memoryReserveBytes: 2 ** 50 } as const;
    const opened = await node.open(first, onMedium);
    assert.deepEqual([opened.placement, opened.notices.length], ['partition', 1]);
  });

  onNode('is given up where the run is ended while it is copied', async (node) => {
    const ending = new AbortController();
    const reason = new Error('the run ends');
    const request = { placement: 'ram', signal: ending.signal, onProgress: () => ending.abort(reason) } as const;
    assert.equal(await node.open(first, request).catch((thrown: unknown) => thrown), reason);
    assert.deepEqual([await node.listed(), await node.mounts()], [0, []]);
  });

  onNode('of which only the mount is left is closed and opened again', async (node) => {
    await node.open(first, { placement: 'ram' });
    await rm(node.path(STORE_RECORD));
    assert.equal(await readOpenStore(node.host), undefined);
    assert.deepEqual([(await node.open(first)).wasOpen, await node.mounts(), await node.listed()], [false, [DATA_PATH, STORE_PATH], 2]);
  });

  onNode('of which only the record is left is opened again', async (node) => {
    await node.open(first);
    await output(execOnLinux, 'umount', [node.path(STORE_PATH)]);
    assert.equal(await readOpenStore(node.host), undefined);
    assert.deepEqual([(await node.open(first)).wasOpen, await node.listed()], [false, 2]);
  });

  onNode('with a record that is damaged, or of another boot, does not count as open', async (node) => {
    await node.open(first);
    const text = await readFile(node.path(STORE_RECORD), 'utf8');
    await writeFile(node.path(STORE_RECORD), text.replace('pending', 'yes'));
    assert.equal(await readOpenStore(node.host), undefined);
    await writeFile(node.path(STORE_RECORD), sealRecord({ ...unsealRecord(text), bootId: 'another' }));
    assert.equal(await readOpenStore(node.host), undefined);
    await writeFile(node.path(STORE_RECORD), text);
    assert.equal((await readOpenStore(node.host))?.verified, 'pending');
  });

  onNode('is trusted otherwise where the kernel does not do dm-verity after all, unless that was asked for', async (node) => {
    await mkdir(node.path('/dev/mapper'), { recursive: true });
    await writeFile(node.path('/dev/mapper/control'), '');
    const error = errorRecord(await node.open(first, { trust: 'verity' }).catch((thrown: unknown) => thrown));
    assert.equal(error.code, 'ERR_TRUST');
    assert.match(
      error.message,
      /^dm-verity was requested, but the kernel cannot set it up: the store image .*\/installed\.squashfs cannot be mounted: veritysetup open: .*device-mapper/,
    );
    assert.deepEqual([await node.listed(), await node.mounts()], [0, []]);
    for (const [placement, trust, verified] of [
      ['partition', 'background', 'pending'],
      ['ram', 'hash', 'before-mount'],
      ['disk', 'hash', 'before-mount'],
    ] as const) {
      const opened = await node.open(first, { placement });
      assert.deepEqual([opened.trust, opened.verified, await node.listed()], [trust, verified, 2]);
    }
    assert.deepEqual(await namesIn(node.path(DISK_COPY_PATH)), [`${first.image.sha256}.squashfs`, `${first.image.sha256}.verity`]);
  });

  onNode('is not opened by dm-verity on a machine that has none', async (node) => {
    assert.deepEqual(errorRecord(await node.open(first, { trust: 'verity' }).catch((thrown: unknown) => thrown)), {
      code: 'ERR_TRUST',
      message: 'dm-verity was requested, but the kernel has no device-mapper',
      remedy: 'Give --trust auto, or --trust hash',
    });
    assert.deepEqual([await node.listed(), await node.mounts()], [0, []]);
  });

  onNode('that is intact is recorded as such by the pass in the background', async (node) => {
    await node.open(first);
    const { target, found } = await hashOpen(node);
    assert.deepEqual(found, { kind: 'intact' });
    await recordIntact(node.host, target, plainAct);
    assert.equal((await readOpenStore(node.host))?.verified, 'yes');
  });

  onNode('that is damaged is found by the pass in the background, and its copy on the disk is not used again', async (node) => {
    const bundle = await copyStoreBundle(first, join(work, 'damaged'));
    await flipByte(bundle.image.path, 1);
    await node.open(bundle, { placement: 'partition' });
    const got = (await hashesBelow(join(bundle.directory, 'store')))['installed.squashfs'];
    const fault = `has the sha256 ${got}, but its bundle says ${first.image.sha256}`;
    assert.deepEqual((await hashOpen(node)).found, { kind: 'damaged', fault });
    assert.equal((await readOpenStore(node.host))?.verified, 'pending');

    const { image } = await node.open(first, { placement: 'disk' });
    await closeStore(node.host, { act: plainAct, force: false });
    await flipByte(image, 1);
    assert.equal((await node.open(first, { placement: 'disk' })).verified, 'pending');
    const { target, found } = await hashOpen(node);
    assert.equal(found.kind, 'damaged');
    await dropDamagedCopy(target, plainAct);
    assert.deepEqual([(await node.open(first, { placement: 'disk' })).verified, await node.listed()], ['before-mount', 2]);
  });

  onNode('that is not open has nothing to check', async (node) => {
    assert.equal(await findCheckTarget(node.host), undefined);
  });

  onNode(
    'that was opened again since a look is not the one that was looked at, though image, record and mount have the same names',
    async (node) => {
      await node.open(first);
      const looked = await findCheckTarget(node.host);
      assert.equal(await isStillOpen(node.host, looked), true);
      await closeStore(node.host, { act: plainAct, force: false });
      assert.deepEqual([await isStillOpen(node.host, looked), await isStillOpen(node.host, undefined)], [false, true]);
      await node.open(first);
      const now = await findCheckTarget(node.host);
      assert.deepEqual([now?.record.image, now?.file, await isStillOpen(node.host, looked)], [looked?.record.image, looked?.file, false]);
    },
  );

  onNode('whose copy was replaced since it was hashed keeps the new copy', async (node) => {
    const { image } = await node.open(first, { placement: 'disk' });
    const target = await findCheckTarget(node.host);
    await cp(image, `${image}.new`);
    await rename(`${image}.new`, image);
    assert.ok(target !== undefined);
    await dropDamagedCopy(target, async (name) => assert.fail(`act ${name}`));
    assert.equal(await sha256OfFile(image), first.image.sha256);
  });

  onNode('leaves nothing behind when its release steps have run, and a second look finds nothing', async (node) => {
    await node.open(first, { placement: 'disk' });
    await closeStore(node.host, { act: plainAct, force: false });
    await node.open(first, { placement: 'ram' });
    await mkdir(node.path(MIRROR_PATH), { recursive: true });
    const steps = await storeUndoSteps(node.host);
    assert.deepEqual(
      steps.map(({ name, text }) => [name, text]),
      [
        ['unmount-store', `unmount the store at ${node.path(STORE_PATH)}`],
        ['forget-store', `remove ${node.path(STORE_RECORD)}`],
        ['unmount-ram', `free the memory of the store image at ${node.path(RAM_PATH)}`],
        ['remove-store-copies', `remove the store images on the disk ${node.path(DISK_COPY_PATH)}`],
        ['remove-mirror', `remove the metadata tree ${node.path(MIRROR_PATH)}`],
        ['remove-empty-store', `remove the empty store ${node.path(STORE_PATH)}`],
      ],
    );
    for (const { run } of steps) await run();
    assert.deepEqual([await node.mounts(), await storeUndoSteps(node.host)], [[], []]);
    assert.deepEqual(await readdir(node.path('/var/lib/prestage-agent')), []);
    assert.deepEqual(await readdir(node.path('/run/prestage-agent')), ['check.lock', 'check.lock.holder']);
  });

  onNode('that is mounted again between the look and the release is not deleted through', async (node) => {
    await node.open(first);
    const remove = (await storeUndoSteps(node.host)).find(({ name }) => name === 'remove-empty-store');
    assert.equal(errorRecord(await remove?.run().catch((thrown: unknown) => thrown)).code, 'ERR_REMOVE');
    assert.equal(await node.listed(), 2);
  });

  onNode('is replaced by an empty store that podman takes on a read-only file system and that is repaired', async (node) => {
    await ensureEmptyStore(node.host, plainAct);
    assert.equal(await node.listed(), 0);
    const path = node.path(STORE_PATH);
    await ensureEmptyStore(node.host, async (name) => assert.fail(`act ${name}`));
    await writeFile(join(path, 'overlay-images/images.json'), '');
    await rm(join(path, 'overlay-images/images.lock'));
    await rm(join(path, 'overlay-layers'), { recursive: true });
    await writeFile(join(path, 'overlay-layers'), 'a file');
    await ensureEmptyStore(node.host, plainAct);
    await ensureEmptyStore(node.host, async (name) => assert.fail(`act ${name}`));
    await output(execOnLinux, 'mount', ['-o', 'bind,ro', path, path]);
    assert.equal(await node.listed(), 0);
    assert.equal(await readFile(join(path, 'overlay-images/images.json'), 'utf8'), '[]');
  });
});

async function sha256OfFile(path: string): Promise<string> {
  return hexOf(digestOf(await readFile(path)));
}

/** What a container does with the store: an overlay over a layer, which lives by itself. */
async function overlayOver(node: StoreRoot): Promise<AsyncDisposable & { readonly path: string }> {
  const layers = join(node.path(STORE_PATH), 'overlay');
  const [layer] = (await readdir(layers)).filter((name) => existsSync(join(layers, name, 'diff/etc/base')));
  const [upper, worker, merged] = ['upper', 'work', 'merged'].map((name) => node.path(`/container/${name}`));
  for (const directory of [upper, worker, merged]) await mkdir(String(directory), { recursive: true });
  const options = `lowerdir=${join(layers, String(layer), 'diff')},upperdir=${upper},workdir=${worker}`;
  await output(execOnLinux, 'mount', ['-t', 'overlay', '-o', options, 'overlay', String(merged)]);
  return {
    path: '/container/merged',
    [Symbol.asyncDispose]: async () => void (await output(execOnLinux, 'umount', [String(merged)])),
  };
}

/** The open store and what hashing its image has found. */
async function hashOpen(node: StoreRoot): Promise<{ readonly target: CheckTarget; readonly found: StoreCheck }> {
  const target = await findCheckTarget(node.host);
  assert.ok(target !== undefined);
  return { target, found: await hashStore(node.host, target, signal) };
}
