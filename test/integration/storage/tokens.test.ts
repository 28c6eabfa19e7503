import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { isToken, LOCK_FILES } from '../../../agent/storage/lock-token.ts';
import { writeDirLayout } from '../../support/images.ts';
import { nodeUsr, startPodmanService } from '../../support/podman-service.ts';
import { makeStoreBundle } from '../../support/store-bundle.ts';
import { openStoreNode, STORE } from '../../support/store-node.ts';
import { makeTinyBundle } from '../../support/tiny-bundle.ts';

/** A store image as the factory builds it, and the references that it holds. */
interface Made {
  readonly image: string;
  readonly references: readonly string[];
}

const MODULES = ['undo/heal.ts', 'mount/empty-store.ts', 'storage/lock-token.ts'];
const HEAL = `await healNode(host, {
  location, act, stopMirror: async () => {}, error: { code: 'ERR_STORE_GONE', message: 'no partition came up', remedy: 'Look for the disk' },
})`;

let work: string;
let small: Made;
let large: Made;
/** An image of the stores, to load where they are gone. */
let archive: string;
/** The small one as older factories built it: zeros in place of tokens. */
let older: Made;

before(async () => {
  work = await mkdtemp(join(tmpdir(), 'tokens-'));
  small = await makeStore(join(work, 'small'), 2);
  large = await makeStore(join(work, 'large'), 3);
  older = await makeOlder(small);
  const { store, images } = await makeTinyBundle(join(work, 'archive'), 1);
  archive = join(work, 'image.tar');
  for (const image of images) {
    await writeDirLayout(store, image, join(work, 'dir'));
    await output(execOnLinux, 'skopeo', ['copy', '--quiet', `dir:${join(work, 'dir')}`, `docker-archive:${archive}:localhost/loaded:1`]);
  }
});
after(async () => await rm(work, { recursive: true, force: true }));

async function makeStore(directory: string, count: number): Promise<Made> {
  await mkdir(directory);
  const { image } = await makeStoreBundle(directory, count);
  const { images } = await makeTinyBundle(join(directory, 'again'), count);
  return { image: image.path, references: images.map(({ reference }) => reference).toSorted() };
}

async function makeOlder({ image, references }: Made): Promise<Made> {
  const tree = join(work, 'older');
  const packed = join(work, 'older.squashfs');
  await output(execOnLinux, 'unsquashfs', ['-quiet', '-no-progress', '-dest', tree, image]);
  for (const lock of LOCK_FILES) await writeFile(join(tree, lock), Buffer.alloc(64));
  await output(execOnLinux, 'mksquashfs', [tree, packed, '-comp', 'zstd', '-quiet', '-no-progress']);
  return { image: packed, references };
}

/** The podman of this machine, and that of a newer node. Both stand for CRI-O, which has no package. */
const ENGINES = [
  { name: 'podman 4', usr: async () => undefined },
  { name: 'podman 5', usr: nodeUsr },
] as const;

for (const { name, usr } of ENGINES) {
  describe(`an engine that goes on while the store changes (${name})`, () => {
    const open = async ({ image }: Made) => await openStoreNode({ image, source: () => '' }, {}, await usr());

    it('sees a store image go, can load what it held, and sees it come back, without a restart', async () => {
      await using node = await open(small);
      const engine = await startPodmanService(node);
      assert.deepEqual(await engine.images(), small.references);
      await node.evaluate(MODULES, HEAL);
      assert.deepEqual(await engine.images(), []);
      assert.equal(await engine.load(archive), undefined);
      assert.deepEqual(await engine.images(), ['localhost/loaded:1']);
      await node.bringStore();
      assert.deepEqual(await engine.images(), ['localhost/loaded:1', ...small.references]);
    });

    it('sees one store image exchanged for another, without a restart', async () => {
      await using node = await open(small);
      const engine = await startPodmanService(node);
      assert.deepEqual(await engine.images(), small.references);
      await node.loseStore();
      await node.output('mount', ['-t', 'squashfs', '-o', 'loop,ro', large.image, STORE]);
      assert.deepEqual(await engine.images(), large.references);
    });

    it('sees a store image of an older factory go and come back', async () => {
      await using node = await open(older);
      const engine = await startPodmanService(node);
      assert.deepEqual(await engine.images(), older.references);
      await node.evaluate(MODULES, HEAL);
      assert.deepEqual(await engine.images(), []);
      await node.bringStore();
      assert.deepEqual(await engine.images(), older.references);
    });
  });
}

describe('the tokens of a store', () => {
  const tokens = async (directory: string) =>
    await Promise.all(LOCK_FILES.map(async (lock) => (await readFile(join(directory, lock))).toString('hex')));

  it('are made of what is in it: the same for the same images, others for others', async () => {
    const unpack = async ({ image }: Made, name: string) => {
      await output(execOnLinux, 'unsquashfs', ['-quiet', '-no-progress', '-dest', join(work, name), image, ...LOCK_FILES]);
      return await tokens(join(work, name));
    };
    const again = await makeStore(join(work, 'again'), 2);
    const [first, second, other] = [await unpack(small, 'one'), await unpack(again, 'two'), await unpack(large, 'three')];
    assert.deepEqual(second, first);
    assert.equal(new Set([...first, ...other]).size, 2);
    assert.ok([...first, ...other].every((token) => isToken(Buffer.from(token, 'hex'))));
  });

  it('are new in the empty store after each healing, and replace the zeros of an older agent', async () => {
    await using node = await openStoreNode({ image: small.image, source: () => '' });
    const seen = new Set<string>();
    await node.loseStore();
    for (const lock of LOCK_FILES)
      await node.output('sh', ['-c', 'mkdir -p "$(dirname "$1")" && head -c 64 /dev/zero > "$1"', 'sh', join(STORE, lock)]);
    for (const act of ['await ensureEmptyStore(host, act)', HEAL, HEAL]) {
      await node.evaluate(MODULES, `(${act}, 0)`);
      const [token = '', ...others] = new Set(await tokens(node.path(STORE)));
      assert.deepEqual([others, isToken(Buffer.from(token, 'hex'))], [[], true]);
      seen.add(token);
    }
    assert.equal(seen.size, 3);
  });

  it('that an older factory left out are told to whoever exchanges store images below a running CRI-O', async () => {
    const toldOf = async ({ image }: Made, wasOpen: boolean, hasCrio: boolean) => {
      await using node = await openStoreNode({ image, source: () => '' });
      if (hasCrio) {
        await node.output('cp', ['/bin/sleep', '/run/crio']);
        node.start('/run/crio', ['60']);
        await node.output('sh', ['-c', 'until grep -qx crio /proc/[0-9]*/comm; do sleep 0.05; done']);
      }
      const told = await node.evaluate(['engine/unseen-exchange.ts'], `await unseenExchange(host, { path: STORE, wasOpen: ${wasOpen} })`);
      return Array.isArray(told) ? told.map(String) : told;
    };
    const notice =
      'The store image was built by an older prestage-agent. A CRI-O that has read another such store image does not notice the new one: systemctl restart crio. To avoid this, build the bundle again';
    assert.deepEqual(await toldOf(older, false, true), [notice]);
    assert.deepEqual([await toldOf(older, true, true), await toldOf(older, false, false), await toldOf(small, false, true)], [[], [], []]);
  });
});
