import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { layoutImage } from '../../../agent/extract/oci-layout.ts';
import { ABSENT_INSTANCES_FILE, type AbsentInstance, formatAbsentInstances } from '../../../agent/model/absent-instances.ts';
import { type Digest, digestOf, hexOf } from '../../../agent/model/digest.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { verifyLists } from '../../../agent/verify/lists.ts';

const REFERENCE = 'quay.io/e/app:1';
let layout: string;
let amd64: Digest;
let arm64: Digest;
let list: Digest;
const ARM64 = (): AbsentInstance => ({ digest: arm64, platform: 'linux/arm64' });

before(async () => {
  layout = await mkdtemp(join(tmpdir(), 'verify-lists-'));
  await mkdir(join(layout, 'blobs/sha256'), { recursive: true });
  const config = await blob('{}');
  const image = (mark: string): string =>
    JSON.stringify({ schemaVersion: 2, mark, config: { mediaType: '', digest: config, size: 2 }, layers: [] });
  amd64 = await blob(image('amd64'));
  arm64 = digestOf(image('arm64'));
  const instance = (digest: Digest, architecture: string): unknown => ({ digest, size: 7, platform: { os: 'linux', architecture } });
  list = await blob(JSON.stringify({ schemaVersion: 2, manifests: [instance(amd64, 'amd64'), instance(arm64, 'arm64')] }));
});
after(async () => await rm(layout, { recursive: true, force: true }));

async function blob(text: string): Promise<Digest> {
  const digest = digestOf(text);
  await writeFile(pathOf(digest), text);
  return digest;
}
const pathOf = (digest: Digest): string => join(layout, 'blobs/sha256', hexOf(digest));

/** @param recorded what pull has recorded of the list; undefined if it did not bring it */
async function checked(recorded: readonly AbsentInstance[] | undefined, architecture = 'amd64') {
  await rm(join(layout, ABSENT_INSTANCES_FILE), { force: true });
  if (recorded !== undefined) await writeFile(join(layout, ABSENT_INSTANCES_FILE), formatAbsentInstances(new Map([[list, recorded]])));
  return await verify(architecture);
}

async function verify(architecture: string) {
  const store = {
    directory: layout,
    pathOf: (digest: Digest) => `blobs/sha256/${hexOf(digest)}`,
    hasLayers: true,
    code: 'ERR_LAYOUT_BLOB',
  } as const;
  return await verifyLists(layout, store, [{ reference: REFERENCE, digest: list }], architecture);
}

const notice = (): string =>
  `the list of 1 image names 1 manifest that this layout lacks: linux/arm64 (1); first: ${arm64} of ${REFERENCE}`;

test('what the registry did not have is a notice', async () => {
  const { faults, notices, others } = await checked([ARM64()]);
  assert.deepEqual([faults, notices, others.length], [[], [notice()], 1]);
});

test('what pull brought and is gone is damage', async () => {
  const { faults, notices } = await checked([]);
  assert.deepEqual(
    [faults, notices],
    [
      [
        {
          path: `blobs/sha256/${hexOf(arm64)}`,
          code: 'ERR_LAYOUT_BLOB',
          message: `${pathOf(arm64)}, which the list of ${REFERENCE} names for linux/arm64, is missing`,
          remedy: 'Write the bundle again from the factory; if it is faulty there, pull and build it again',
        },
      ],
      [],
    ],
  );
});

test('of a list that no pull has recorded, nobody knows', async () => {
  const { faults, notices } = await checked(undefined);
  assert.deepEqual([faults, notices], [[], [notice()]]);
});

test('a record behind a link is not read', async () => {
  await checked([]);
  await rm(join(layout, ABSENT_INSTANCES_FILE));
  await writeFile(join(layout, 'elsewhere.json'), formatAbsentInstances(new Map([[list, []]])));
  await symlink('elsewhere.json', join(layout, ABSENT_INSTANCES_FILE));
  assert.deepEqual((await verify('amd64')).faults, []);
});

test('the platform of the node that the registry did not have is its own error, and not damage', async () => {
  const { faults, notices, others } = await checked([ARM64()], 'arm64');
  const error = {
    code: 'ERR_ARCHITECTURE',
    message: `${layout}: the list ${list} names ${arm64} for linux/arm64, which is missing: the source of the list may not have it`,
    remedy: 'Pull it from a source that has the image for linux/arm64, or remove it from the list',
  };
  assert.deepEqual([faults, notices, others], [[{ path: `blobs/sha256/${hexOf(list)}`, ...error }], [], []]);
  const thrown = await layoutImage(layout, list, 'arm64').catch(errorRecord);
  assert.deepEqual(thrown, error);
});

test('the platform of the node that pull brought and that is gone is damage, for verify and for the node', async () => {
  const { faults, others } = await checked([], 'arm64');
  assert.deepEqual([faults, others.length], [[], 1], 'whoever follows the blobs finds it');
  assert.deepEqual(await layoutImage(layout, list, 'arm64').catch(errorRecord), {
    code: 'ERR_LAYOUT_BLOB',
    message: `${pathOf(arm64)}, the image of the list ${list} for linux/arm64, is missing`,
    remedy: 'Pull the images again: complete blobs are kept',
  });
});

test('an image that is whole tells what its list names besides', async () => {
  assert.deepEqual((await layoutImage(layout, list, 'amd64')).absent, [ARM64()]);
});
