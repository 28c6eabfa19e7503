import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Host } from '../../../agent/host/host.ts';
import { withBundleFacts } from '../../../agent/load/record-plan.ts';
import type { ImageState, RunState } from '../../../agent/model/run-state.ts';
import { createRunRecord } from '../../../agent/state/run-record.ts';

const host: Host = {
  root: '/',
  env: {},
  architecture: 'amd64',
  cores: 1,
  log: () => undefined,
  clock: { now: () => new Date(0), monotonicMs: () => 0, sleep: async () => undefined },
  exec: async () => ({ stdout: '', stderr: '', exitCode: 0 }),
};
const image = (reference: string): ImageState => ({ reference, names: [], digests: [], state: 'pending' });
const initial: RunState = {
  apiVersion: 'prestage-agent/v1',
  kind: 'RunState',
  agentVersion: '1',
  bootId: 'b',
  pid: 1,
  processStartTicks: 1,
  startedAt: 'T',
  stage: 'discovery',
  policy: 'open',
  phase: 'starting',
  bytes: { total: 0, done: 0 },
  notices: [],
  images: [image('a')],
  unsynced: [],
  suspect: [],
};

test('a record has the component names of images from the moment that the bundle is read, so that a killed run has them, too', () => {
  const record = createRunRecord(host, initial, true);
  const ofBundle = (reference: string) => ({
    reference,
    names: [reference],
    manifestDigest: `sha256:${'a'.repeat(64)}` as const,
    components: [`component-${reference}`],
    compressedBytes: 0,
    unpackedBytes: 0,
  });
  record.describeImages((images) => withBundleFacts(images, [ofBundle('a'), ofBundle('b')]));
  assert.deepEqual(record.state.images, [{ ...image('a'), components: ['component-a'] }]);
  record.update({ images: [image('b'), image('c')] });
  assert.deepEqual(record.state.images, [{ ...image('b'), components: ['component-b'] }, image('c')]);
  record.update({ phase: 'loading' });
  assert.equal(record.state.images.length, 2);
});
