import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { digestOf } from '../../../agent/model/digest.ts';
import { filesOf, survey, unpack, workDirectory } from '../../support/archive-jobs.ts';
import { realArchive } from '../../support/real-archive.ts';

const forms: readonly [string, string, { readonly tar?: readonly string[]; readonly member?: string }][] = [
  ['tar czf NAME.tgz NAME', 'image_latest', {}],
  ['tar czf NAME.tgz ./NAME', 'image_latest', { member: './image_latest' }],
  ['tar of a long name, in the GNU format', `ocp-v4.0-art-dev@sha256_${'a'.repeat(64)}`, { tar: ['--format=gnu'] }],
  ['tar of a long name, in the pax format', `ocp-v4.0-art-dev@sha256_${'a'.repeat(64)}`, { tar: ['--format=pax'] }],
  ['tar in the ustar format', 'image_latest', { tar: ['--format=ustar'] }],
  ['tar with large records', 'image_latest', { tar: ['--blocking-factor=2048'] }],
];
for (const [title, name, options] of forms) {
  test(`an archive as skopeo and ${title} write it is read, and skopeo reads what is unpacked`, async () => {
    await using work = await workDirectory();
    const path = await work.archive(await realArchive(work.path, name, 7, options), name);
    const { image, topDigest } = await survey({ path, name });
    const to = await work.empty();
    await unpack({ path, name, to, writeBlobs: image.layers.map(({ digest }) => digest), layers: image.layers });
    const back = join(work.path, 'back');
    await output(execOnLinux, 'skopeo', ['copy', '--quiet', '--preserve-digests', `dir:${to}`, `dir:${back}`]);
    assert.deepEqual(await filesOf(back), await filesOf(to));
    assert.equal(digestOf((await filesOf(back)).get('manifest.json') ?? ''), topDigest);
  });
}
