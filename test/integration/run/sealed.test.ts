import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFile, cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BUNDLE_FILE, PARTIAL_FILE } from '../../../agent/model/bundle.ts';
import { makeSandbox, type Sandbox, statesOf } from '../../support/agent.ts';
import { smallImageSet } from '../../support/image-set.ts';
import { makeImage, writeOciLayout } from '../../support/images.ts';
import { assertLoaded, assertNothingLeft } from '../../support/loaded.ts';
import { type HandSealed, seal, sealLayout } from '../../support/sealed-bundle.ts';

describe('a sealed bundle', () => {
  let sandbox: Sandbox;
  let bundle: HandSealed;
  before(async () => {
    sandbox = await makeSandbox();
    const set = await smallImageSet();
    bundle = await sealLayout(set.store, { directory: join(sandbox.work, 'sealed'), stage: 'discovery', images: set.discovery });
  });
  after(async () => await sandbox[Symbol.asyncDispose]());

  const copied = async (name: string): Promise<string> => {
    const directory = join(sandbox.work, name);
    await cp(bundle.directory, directory, { recursive: true });
    return directory;
  };
  const refusal = async (args: readonly string[]) => {
    const { exitCode, state } = await sandbox.run(['--stage', 'discovery', ...args]);
    return [exitCode, state.error?.code, state.images.length];
  };

  it('of an OCI layout loads all images of the stage, Docker and OCI, lists and single ones, under its pin', async () => {
    const { images } = await smallImageSet();
    const { exitCode, state } = await sandbox.run(['--stage', 'discovery', '--bundle', bundle.directory, '--bundle-sha256', bundle.sha256]);
    assert.deepEqual([exitCode, state.outcome, state.payload, state.error], [0, 'complete', 'oci', undefined]);
    assert.ok(state.images.every((image) => image.state === 'loaded'));
    await assertLoaded(sandbox, [
      images.release,
      images.links,
      images.otherArchitecture,
      images.indexByTag,
      images.agent,
      images.whiteouts,
    ]);
    await assertNothingLeft(sandbox);
  });

  it('is a no-op the second time', async () => {
    const { state } = await sandbox.run(['--stage', 'discovery', '--bundle', bundle.directory]);
    assert.deepEqual([...new Set(statesOf(state).map(([, name]) => name))], ['present']);
  });

  it('with another hash than the pinned one is refused before anything of it is read', async () => {
    assert.deepEqual(await refusal(['--bundle', bundle.directory, '--bundle-sha256', 'f'.repeat(64)]), [6, 'ERR_BUNDLE_PIN', 0]);
  });

  it('without its manifest is refused where one is pinned', async () => {
    const directory = await copied('unsealed');
    await rm(join(directory, BUNDLE_FILE));
    assert.deepEqual(await refusal(['--bundle', directory, '--bundle-sha256', bundle.sha256]), [6, 'ERR_BUNDLE_PIN', 0]);
  });

  it('that was not written to its end is recognised as such', async () => {
    const directory = await copied('partial');
    await writeFile(join(directory, PARTIAL_FILE), '');
    assert.deepEqual(await refusal(['--bundle', directory]), [6, 'ERR_BUNDLE_PARTIAL', 0]);
  });

  it('with a manifest that is cut off is refused', async () => {
    const directory = await copied('cut');
    const text = await readFile(join(directory, BUNDLE_FILE), 'utf8');
    await writeFile(join(directory, BUNDLE_FILE), text.slice(0, text.length / 2));
    assert.deepEqual(await refusal(['--bundle', directory]), [6, 'ERR_BUNDLE', 0]);
  });

  it('of another stage says which stages it has', async () => {
    const { state } = await sandbox.run(['--stage', 'installed', '--bundle', bundle.directory]);
    assert.deepEqual(
      [state.error?.code, state.error?.message],
      ['ERR_PAYLOAD_MISSING', `${join(bundle.directory, BUNDLE_FILE)} has no stage "installed"; its stages: discovery`],
    );
  });

  it('with an exchanged layer fails that image alone and at once, and names the layer', async () => {
    const { images } = await smallImageSet();
    const directory = await copied('exchanged');
    const own = images.links.instances[0]?.layers.at(-1);
    assert.ok(own);
    const blob = join(directory, 'oci/blobs/sha256', own.digest.slice('sha256:'.length));
    const bytes = await readFile(blob);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    await rm(blob);
    await writeFile(blob, bytes);
    await using other = await makeSandbox();
    const { exitCode, state } = await other.run(['--stage', 'discovery', '--bundle', directory]);
    assert.deepEqual([exitCode, state.outcome], [3, 'partial']);
    const failed = state.images.filter((image) => image.state === 'failed');
    const actual = createHash('sha256').update(bytes).digest('hex');
    assert.deepEqual(
      failed.map(({ reference, attempts, error }) => [reference, attempts, error?.code, error?.message]),
      [[images.links.reference, 1, 'ERR_LAYOUT_BLOB', `${blob} has the digest sha256:${actual}`]],
    );
    await assertNothingLeft(other);
  });

  it('with an exchanged manifest refuses that image before it is copied', async () => {
    const { images } = await smallImageSet();
    const directory = await copied('manifest');
    const path = (digest: string) => join(directory, 'oci/blobs/sha256', digest.slice('sha256:'.length));
    await rm(path(images.agent.digest));
    await copyFile(path(images.release.digest), path(images.agent.digest));
    await using other = await makeSandbox();
    const { state } = await other.run(['--stage', 'discovery', '--bundle', directory]);
    const failed = state.images.filter((image) => image.state === 'failed');
    assert.deepEqual(
      failed.map((image) => [image.reference, image.error?.code]),
      [[images.agent.reference, 'ERR_LAYOUT_BLOB']],
    );
  });

  it('with archives checks each against the manifest’s digest, tags too', async () => {
    const set = await smallImageSet();
    const directory = join(sandbox.work, 'with-archives');
    await cp(set.archives, join(directory, 'archives'), { recursive: true });
    const forged = set.discovery.map((image) =>
      image.reference === set.images.agent.reference ? { ...image, digest: set.images.release.digest } : image,
    );
    await seal({ directory, stage: 'discovery', images: forged, payloads: [{ kind: 'archives', path: 'archives' }] });
    await using other = await makeSandbox();
    const { exitCode, state } = await other.run(['--stage', 'discovery', '--bundle', directory]);
    const failed = state.images.filter((image) => image.state === 'failed');
    assert.deepEqual(
      [exitCode, failed.map((image) => [image.reference, image.error?.code])],
      [3, [[set.images.agent.reference, 'ERR_ARCHIVE_REFERENCE']]],
    );
  });

  it('for machines of another architecture is refused before anything of it is loaded', async () => {
    const directory = await copied('for-arm64');
    const path = join(directory, BUNDLE_FILE);
    await writeFile(path, (await readFile(path, 'utf8')).replace('"architecture": "amd64"', '"architecture": "arm64"'));
    await using other = await makeSandbox();
    const { exitCode, state } = await other.run(['--stage', 'discovery', '--bundle', directory]);
    assert.deepEqual(
      [exitCode, state.outcome, state.architecture, state.images, state.error],
      [
        6,
        'failed',
        'arm64',
        [],
        {
          code: 'ERR_BUNDLE_ARCHITECTURE',
          message: `the bundle in ${directory} was built for arm64, but this node is amd64`,
          remedy: 'Build the bundle with --architecture amd64, and write it to the partition',
        },
      ],
    );
    await assertLoaded(other, []);
    const verified = await other.agent(['verify', directory, '--architecture', 'amd64', '--output', 'json']);
    const faults: readonly { readonly code: string }[] = JSON.parse(verified.stdout).faults;
    assert.deepEqual(
      faults.map(({ code }) => code),
      ['ERR_BUNDLE_ARCHITECTURE'],
    );
  });

  it('with an image for another architecture loads the others, and says which image it is', async () => {
    const { store, images } = await smallImageSet();
    const foreign = await makeImage(store, {
      name: 'quay.io/example/foreign',
      tag: 'v1',
      format: 'oci',
      architecture: 'arm64',
      layers: [],
    });
    const directory = join(sandbox.work, 'with-foreign');
    await sealLayout(store, { directory, stage: 'discovery', images: [images.agent, foreign] });
    await using other = await makeSandbox();
    const { exitCode, state } = await other.run(['--stage', 'discovery', '--bundle', directory]);
    assert.deepEqual(
      [exitCode, state.images.map((image) => [image.reference, image.state, image.error?.code, image.error?.message])],
      [
        3,
        [
          [images.agent.reference, 'loaded', undefined, undefined],
          [
            foreign.reference,
            'failed',
            'ERR_ARCHITECTURE',
            'quay.io/example/foreign:v1 is an image for linux/arm64, but this node is linux/amd64',
          ],
        ],
      ],
    );
  });

  it('gives its hashes to the ignition that pins it', async () => {
    const directory = await copied('with-agent');
    await writeFile(join(directory, 'prestage-agent'), 'an executable');
    const set = await smallImageSet();
    const { sha256 } = await seal({ directory, stage: 'discovery', images: set.discovery, payloads: [{ kind: 'oci', path: 'oci' }] });
    const { stdout, exitCode } = await sandbox.agent(['ignition', 'discovery', '--bundle', directory]);
    assert.equal(exitCode, 0);
    const { systemd, storage } = JSON.parse(stdout);
    assert.match(systemd.units[0].contents, new RegExp(` --bundle-sha256 ${sha256}$`, 'm'));
    const env: string = storage.files.find((file: { path: string }) => file.path.endsWith('launcher.env')).contents.source;
    const text = env.includes(';base64,') ? Buffer.from(env.replace(/^.*?,/, ''), 'base64').toString() : decodeURIComponent(env);
    const executable = createHash('sha256').update('an executable').digest('hex');
    assert.ok(text.includes(`AGENT_SHA256=${executable}`), text);
  });
});

describe('an OCI layout without a bundle', () => {
  it('is loaded whole, with a notice, and one for what has no full name', async () => {
    await using sandbox = await makeSandbox();
    const set = await smallImageSet();
    const directory = join(sandbox.work, 'layout');
    const unnamed = { ...set.images.zstd, reference: '1.0' };
    await writeOciLayout(set.store, [set.images.release, unnamed, set.images.oci], directory);
    const { exitCode, state } = await sandbox.run(['--stage', 'installed', '--bundle', directory]);
    assert.deepEqual(
      [exitCode, statesOf(state), state.notices.length],
      [
        0,
        [
          [set.images.release.reference, 'loaded'],
          [set.images.oci.reference, 'loaded'],
        ],
        2,
      ],
    );
    await assertLoaded(sandbox, [set.images.release, set.images.oci]);
  });
});
