import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { sealRecord, unsealRecord } from '../../../agent/model/seal.ts';
import { makeSandbox, mountPointsBelow, type Sandbox, statesOf } from '../../support/agent.ts';
import { assertLoaded, assertNothingLeft } from '../../support/loaded.ts';
import { makeTinyBundle, type TinyBundle } from '../../support/tiny-bundle.ts';

/**
 * What a power cut in the midst of a load leaves: records of layers whose files are empty. The record of an image comes after those of its layers, and
 * its name after that. Source: github.com/containers/image, storage/storage_dest.go, Commit.
 */
describe('layers of a load that a power cut has ended', () => {
  let work: string;
  let bundle: TinyBundle;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'unsynced-'));
    bundle = await makeTinyBundle(work, 2);
  });
  after(async () => await rm(work, { recursive: true }));

  const cases: readonly { readonly what: string; readonly change: (images: readonly ImageRecord[]) => readonly ImageRecord[] }[] = [
    { what: 'without an image', change: () => [] },
    { what: 'under images without names', change: (images) => images.map((image) => ({ ...image, names: [] })) },
    { what: 'under images that have got nothing yet', change: (images) => images.map(({ id, layer }) => ({ id, layer })) },
  ];
  for (const { what, change } of cases) {
    it(`${what} are not built upon`, async () => {
      await using sandbox = await makeSandbox();
      await sandbox.run(['--bundle', bundle.directory]);
      await cutShort(sandbox, change);
      assert.notEqual(await readWhole(sandbox, bundle.images[0]?.reference ?? ''), 0, 'nothing was damaged');

      const { exitCode, state, stderr } = await sandbox.run(['--bundle', bundle.directory]);
      assert.deepEqual([exitCode, state.outcome, state.unsynced, state.suspect], [0, 'complete', [], []], stderr);
      assert.deepEqual(
        statesOf(state),
        bundle.images.map(({ reference }) => [reference, 'loaded']),
      );
      assert.match(stderr, /the machine went down before its files were known to be on the disk/);
      for (const { reference } of bundle.images) assert.equal(await readWhole(sandbox, reference), 0);
      await assertLoaded(
        sandbox,
        bundle.images.map((image, index) => (index === 1 ? { ...image, names: [image.reference, bundle.mappedName] } : image)),
      );
      await assertNothingLeft(sandbox);
    });
  }
});

interface ImageRecord {
  readonly id: string;
  readonly layer: string;
  readonly names?: readonly string[];
}

/** The storage and the state of another boot: every file of every layer is empty, and image records are as a test says. */
async function cutShort(sandbox: Sandbox, change: (images: readonly ImageRecord[]) => readonly ImageRecord[]): Promise<void> {
  for (const point of (await mountPointsBelow(sandbox.root)).toReversed()) await output(execOnLinux, 'umount', [point]);
  await rm(join(sandbox.root, 'run'), { recursive: true });
  const records = join(sandbox.graphroot, 'overlay-images/images.json');
  const images: readonly ImageRecord[] = JSON.parse(await readFile(records, 'utf8'));
  const kept = change(images);
  await writeFile(records, JSON.stringify(kept));
  for (const { id } of images)
    if (!kept.some((image) => image.id === id)) await rm(join(sandbox.graphroot, 'overlay-images', id), { recursive: true });
  for (const layer of await readdir(join(sandbox.graphroot, 'overlay'))) {
    const etc = join(sandbox.graphroot, 'overlay', layer, 'diff/etc');
    for (const name of await readdir(etc).catch(() => [])) await truncate(join(etc, name), 0);
  }
  const state = unsealRecord(await readFile(sandbox.stateFile, 'utf8'));
  const references: readonly { readonly reference: string }[] = Object(state).images;
  const unsynced = references.map(({ reference }) => reference);
  await writeFile(
    sandbox.stateFile,
    sealRecord({ ...state, bootId: '00000000-0000-4000-8000-000000000000', unsynced, outcome: undefined }),
  );
}

/** Has skopeo put the layers of an image together again; they must have the digests of its config. */
async function readWhole(sandbox: Sandbox, reference: string): Promise<number> {
  const to = await mkdtemp(join(sandbox.work, 'read-'));
  const from = `containers-storage:[overlay@${sandbox.graphroot}+${sandbox.runroot}]${reference}`;
  return (await execOnLinux('skopeo', ['copy', '--quiet', from, `dir:${to}`])).exitCode;
}
