import assert from 'node:assert/strict';
import { createWriteStream } from 'node:fs';
import { appendFile, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { after, before, describe, it } from 'node:test';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-fs';
import { makeSandbox, type Sandbox, statesOf } from '../../support/agent.ts';
import { archiveName } from '../../support/image-archives.ts';
import { type MadeImage, writeDirLayout } from '../../support/images.ts';
import { assertLoaded, treeOf } from '../../support/loaded.ts';
import { makeTinyBundle, type TinyBundle, writeFolder } from '../../support/tiny-bundle.ts';

describe('a bundle', () => {
  let sandbox: Sandbox;
  let bundle: TinyBundle;
  before(async () => {
    sandbox = await makeSandbox();
    bundle = await makeTinyBundle(sandbox.work);
  });
  after(async () => await sandbox[Symbol.asyncDispose]());

  const folder = async (name: string, images: readonly MadeImage[]) =>
    await writeFolder(bundle, join(sandbox.work, name), { lists: { 'ai-images.txt': images } });
  const image = (index: number): MadeImage => {
    const found = bundle.images[index];
    if (found === undefined) throw new Error(`the bundle has no image ${index}`);
    return found;
  };

  it('whose images share an archive name refuses each of them by name, and loads the others', async () => {
    const first = { ...image(1), reference: 'quay.io/first/same:1' };
    const second = { ...image(2), reference: 'quay.io/second/same:1' };
    const directory = await folder('collision', [first, image(0)]);
    await appendFile(join(directory, 'ai-images.txt'), `${second.reference}\n`);
    const { exitCode, state } = await sandbox.run(['--bundle', directory]);
    assert.equal(exitCode, 3);
    assert.deepEqual(
      state.images.map(({ reference, state: was, error }) => [reference, was, error]),
      [
        [first.reference, 'failed', collision(first.reference, 'quay.io/second/same')],
        [image(0).reference, 'loaded', undefined],
        [second.reference, 'failed', collision(second.reference, 'quay.io/first/same')],
      ],
    );
  });

  it('that lacks an archive says which, and loads the others', async () => {
    const directory = await folder('missing', [image(0), image(1)]);
    const path = join(directory, `${archiveName(image(1).reference)}.tgz`);
    await rm(path);
    const { exitCode, state } = await sandbox.run(['--bundle', directory]);
    assert.equal(exitCode, 3);
    assert.deepEqual(state.images[1]?.error, {
      code: 'ERR_ARCHIVE_MISSING',
      message: `${path} of ${image(1).reference} cannot be read: it does not exist`,
      remedy: 'Write the archive at the factory, or remove the image from the list',
    });
    assert.equal(state.images[1]?.reason, state.images[1]?.error?.message);
  });

  it('with one digest in two repositories loads both from the archive that they share', async () => {
    const mirrored = { ...image(1), reference: image(1).reference.replace('quay.io/openshift-release-dev/', 'mirror.example.com/copies/') };
    const directory = await folder('shared', [image(1)]);
    await appendFile(join(directory, 'ai-images.txt'), `${mirrored.reference}\n`);
    const { exitCode, state } = await sandbox.run(['--bundle', directory]);
    const faults = state.images.map(({ error }) => error);
    assert.deepEqual([exitCode, faults], [0, [undefined, undefined]]);
    assert.deepEqual(
      statesOf(state),
      [image(1), mirrored].map(({ reference }) => [reference, 'loaded']),
    );
    await assertLoaded(sandbox, [image(1), mirrored]);
  });

  it('with a reference of tag and digest makes it resolve by both', async () => {
    const both = { ...image(2), reference: `quay.io/example/both:v1@${image(2).digest}` };
    const directory = await folder('both', [both]);
    const { exitCode } = await sandbox.run(['--bundle', directory]);
    assert.equal(exitCode, 0);
    await assertLoaded(sandbox, [{ ...both, names: ['quay.io/example/both:v1', `quay.io/example/both@${image(2).digest}`] }]);
  });

  it('with an archive that tar-fs packed, manifest.json first, loads it', async () => {
    const packed = { ...image(2), reference: 'quay.io/example/packed:v1' };
    const name = archiveName(packed.reference);
    const layout = join(sandbox.work, 'layout');
    const directory = join(sandbox.work, 'tar-fs');
    await writeDirLayout(bundle.store, packed, join(layout, name));
    await mkdir(directory);
    await writeFile(join(directory, 'ai-images.txt'), `${packed.reference}\n`);
    const files = (await readdir(join(layout, name))).filter((file) => file !== 'manifest.json');
    const entries = ['manifest.json', ...files].map((file) => `${name}/${file}`);
    await pipeline(pack(layout, { entries }), createGzip(), createWriteStream(join(directory, `${name}.tgz`)));
    const { exitCode, state } = await sandbox.run(['--bundle', directory]);
    assert.equal(exitCode, 0, JSON.stringify(state.images));
    await assertLoaded(sandbox, [packed]);
  });

  it('without a list of the stage is refused, with what it holds', async () => {
    const directory = join(sandbox.work, 'empty');
    await mkdir(directory);
    await writeFile(join(directory, 'notes.txt'), '');
    const { exitCode, state } = await sandbox.run(['--bundle', directory]);
    assert.equal(exitCode, 6);
    assert.deepEqual(state.error, {
      code: 'ERR_PAYLOAD_MISSING',
      message: `${directory} holds no image list for the stage "discovery"; it holds: notes.txt`,
      remedy: 'Put ai-images.txt there at the factory, or choose another --stage',
    });
  });

  it('is planned by --dry-run in text and JSON without a file being written, also where nothing was ever run', async () => {
    await using fresh = await makeSandbox();
    const trees = async () => `${await treeOf(fresh.root)}${await treeOf(bundle.directory)}`;
    const untouched = await trees();
    const args = ['run', '--stage', 'discovery', '--bundle', bundle.directory, '--dry-run', '--parallel', '2'];
    const text = await fresh.agent(args);
    const json = await fresh.agent([...args, '--output', 'json']);
    assert.deepEqual([text.exitCode, json.exitCode, await trees()], [0, 0, untouched]);
    const plan: {
      kind: string;
      stage: string;
      steps: { kind: string; reference: string; names: string[]; after: string[]; layers: string[] }[];
    } = JSON.parse(json.stdout);
    const [leader, ...others] = plan.steps;
    assert.deepEqual([plan.kind, plan.stage, leader?.kind, leader?.after, leader?.layers.length], ['Plan', 'discovery', 'load', [], 2]);
    assert.deepEqual(
      others.map(({ kind, after, layers }) => [kind, after, layers.length]),
      [
        ['load', [leader?.reference], 1],
        ['load', [leader?.reference], 1],
      ],
    );
    assert.deepEqual(plan.steps.find(({ reference }) => reference === image(1).reference)?.names, [image(1).reference, bundle.mappedName]);
    const lines = text.stdout.trimEnd().split('\n');
    assert.deepEqual([lines.length, lines.at(-1)], [5, 'nothing was written']);
    assert.match(lines[1] ?? '', /^load {4}quay\.io\/\S+ \(1 layers, [0-9.]+ KiB, after quay\.io\/\S+\)$/);
    assert.match(lines[3] ?? '', /^2 at a time; storage grows by about [0-9.]+ KiB, scratch space needed: [0-9.]+ KiB$/);
  });
});

function collision(reference: string, other: string) {
  return {
    code: 'ERR_ARCHIVE_COLLISION',
    message: `${reference} and ${other} have the same archive name same_1.tgz`,
    remedy: 'List them by digest, or keep one of them on the list',
  };
}
