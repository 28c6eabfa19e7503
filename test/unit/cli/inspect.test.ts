import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { bundleFacts } from '../../../agent/bundle/bundle-facts.ts';
import { inspectText } from '../../../agent/cli/inspect-command.ts';
import { formatBundle } from '../../../agent/model/bundle.ts';
import { EMPTY_BUNDLE, FULL_BUNDLE } from '../../support/bundle-facts.ts';
import { runHere } from '../../support/program.ts';

const PIN = 'c'.repeat(64);

describe('inspect shows a bundle', () => {
  it('with all that its manifest lists', () => {
    const sealed = { directory: '/mnt', bundle: FULL_BUNDLE, sha256: PIN };
    assert.equal(
      inspectText('disk.img', { kind: 'image', device: '/dev/loop7p1' }, sealed, bundleFacts(FULL_BUNDLE)),
      `bundle:      disk.img (image, mounted from /dev/loop7p1)
release:     4.22.3, for amd64
built:       2026-01-01T00:00:00Z, by prestage-agent 0.1.0
content:     8 files, 7.8 KiB
stages:      discovery: 1 image, 10 B packed, 20 B unpacked
             installed: 2 images, 40 B packed, 80 B unpacked
payloads:    archives: 5 B in 1 file
             oci: 7 B in 1 file
             registry: 3 B in 1 file
             store (installed): 3.9 KiB in 3 files, compression zstd level 6
             store (discovery): 3.9 KiB in 3 files, compression not recorded
signatures:  1 of 2 images signed (1 sigstore, 1 GPG); release signatures: 1
attached:    1 attestation, SBOM or referrer
absent:      manifests without a platform, in 1 image
             linux/arm64, in 2 images
pin, for ignition --bundle-sha256:
  ${PIN}`,
    );
  });

  it('with nothing in it', () => {
    const sealed = { directory: '/mnt', bundle: EMPTY_BUNDLE, sha256: PIN };
    assert.equal(
      inspectText('bundle', { kind: 'folder', device: undefined }, sealed, bundleFacts(EMPTY_BUNDLE)),
      `bundle:      bundle
release:     not recorded, for amd64
built:       2026-01-01T00:00:00Z, by prestage-agent 0.1.0
content:     0 files, 0 B
stages:      none
payloads:    none
signatures:  0 of 0 images signed (0 sigstore, 0 GPG)
absent:      none
pin, for ignition --bundle-sha256:
  ${PIN}`,
    );
  });
});

describe('inspect in a folder', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'inspect-'));
  });
  after(async () => await rm(folder, { recursive: true }));

  it('says that a folder is no bundle, and that a pulled one is to be built first', async () => {
    assert.deepEqual(await runHere(['inspect', folder]), {
      exitCode: 6,
      stdout: '',
      stderr: `error: ${folder} has no prestage.json, so it is not a bundle\n  ERR_PAYLOAD_MISSING; next: Name the folder of a bundle, or a device or disk image that holds one\n`,
    });
    await writeFile(join(folder, 'oci-layout'), '{}');
    assert.deepEqual(await runHere(['inspect', folder]), {
      exitCode: 6,
      stdout: '',
      stderr: `error: ${folder} is a folder that pull filled, not a bundle\n  ERR_PAYLOAD_MISSING; next: Make a bundle of it: prestage-agent build --from ${folder} --to bundle\n`,
    });
  });

  it('reads only the manifest, and has the facts as data, with the pin', async () => {
    const text = formatBundle(EMPTY_BUNDLE);
    await writeFile(join(folder, 'prestage.json'), text);
    const { exitCode, stdout } = await runHere(['inspect', folder, '--output', 'json']);
    const { release, architecture, createdAt, createdBy } = EMPTY_BUNDLE;
    assert.equal(exitCode, 0);
    assert.deepEqual(JSON.parse(stdout), {
      apiVersion: 'prestage-agent/v1',
      kind: 'BundleFacts',
      path: folder,
      source: 'folder',
      bundleSha256: createHash('sha256').update(text).digest('hex'),
      release,
      architecture,
      createdAt,
      createdBy,
      ...bundleFacts(EMPTY_BUNDLE),
    });
  });

  it('refuses a bundle that is being written', async () => {
    await writeFile(join(folder, 'prestage.json.partial'), '');
    const { exitCode, stderr } = await runHere(['inspect', folder]);
    assert.deepEqual([exitCode, /ERR_\w+/.exec(stderr)?.[0]], [6, 'ERR_BUNDLE_PARTIAL']);
  });
});
