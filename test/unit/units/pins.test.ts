import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Host } from '../../../agent/host/host.ts';
import { type IgnitionOptions, runIgnition } from '../../../agent/units/ignition.ts';
import { author } from '../../support/ignition.ts';
import { seal } from '../../support/sealed-bundle.ts';

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'pins-'));
});
after(async () => await rm(directory, { recursive: true }));

const sha256 = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex');

async function pins(options: Readonly<{ agentSha256?: string; bundle?: string }>): Promise<readonly (string | undefined)[]> {
  const { text } = await runIgnition({ stage: 'discovery', ...options }, author);
  const { systemd, storage } = JSON.parse(text);
  const env = Buffer.from(String(storage.files[1].contents.source).replace(/^.*?,/, ''), 'base64').toString();
  const plain = decodeURIComponent(String(storage.files[1].contents.source));
  return [/AGENT_SHA256=([0-9a-f]*)/.exec(env + plain)?.[1], /--bundle-sha256 (\S+)/.exec(systemd.units[0].contents)?.[1]];
}

test('a bundle gives the hashes of its executable and of its manifest; what is given comes before', async () => {
  await writeFile(join(directory, 'prestage-agent'), 'executable');
  await seal({ directory, stage: 'discovery', images: [], payloads: [] });
  const manifest = sha256(await readFile(join(directory, 'prestage.json')));
  assert.deepEqual(await pins({ bundle: directory }), [sha256('executable'), manifest]);
  assert.deepEqual(await pins({ bundle: directory, agentSha256: 'a'.repeat(64) }), ['a'.repeat(64), manifest]);
});

const STORE = {
  image: 'store.squashfs',
  verity: { rootHash: 'a'.repeat(64), hashTree: 'store.verity' },
  mirror: 'mirror',
};

test('for an installed node that mounts a store image it is said how to have its images pinned, and for no other', async () => {
  const { image, verity, mirror } = STORE;
  for (const path of [image, verity.hashTree, mirror]) await writeFile(join(directory, path), path);
  await seal({ directory, stage: 'installed', images: [], payloads: [{ kind: 'store', stage: 'installed', ...STORE }] });
  const said = async (options: Partial<IgnitionOptions>): Promise<readonly string[]> => {
    const messages: string[] = [];
    const log: Host['log'] = (severity, message) => void (severity === 'notice' && messages.push(message));
    await runIgnition({ stage: 'installed', bundle: directory, ...options }, { ...author, log });
    return messages;
  };
  const advice = `pin the images of the store image: kubelet removes images to free space, but removing an image of a store image frees none. To print manifests that pin them, and that give the store to all of root’s podman, run: prestage-agent manifests --bundle ${directory}`;
  assert.deepEqual([await said({}), await said({ delivery: 'auto' }), await said({ delivery: 'mount' })], [[advice], [advice], [advice]]);
  assert.deepEqual([await said({ delivery: 'extract' }), await said({ stage: 'discovery' })], [[], []]);
  await seal({ directory, stage: 'installed', images: [], payloads: [] });
  assert.deepEqual(await said({}), []);
});

test('a bundle without an executable pins its manifest alone', async () => {
  await rm(join(directory, 'prestage-agent'), { force: true });
  await seal({ directory, stage: 'discovery', images: [], payloads: [] });
  assert.deepEqual(await pins({ bundle: directory }), ['', sha256(await readFile(join(directory, 'prestage.json')))]);
});
