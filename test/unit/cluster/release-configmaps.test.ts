import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderReleaseConfigMaps } from '../../../agent/cluster/release-configmaps.ts';
import { thrownBy } from '../../support/thrown.ts';

test('signatures of a release that no ConfigMap takes are refused', () => {
  const release = `sha256:${'a'.repeat(64)}` as const;
  const half = Buffer.alloc(512 * 1024);
  assert.equal(renderReleaseConfigMaps([{ release, messages: [half, half] }]).length, 1);
  assert.deepEqual(
    thrownBy(() => renderReleaseConfigMaps([{ release, messages: [half, half, Buffer.from('a')] }])),
    {
      code: 'ERR_SIGNATURE',
      message: `the signatures of the release ${release} have 1048577 bytes, but a ConfigMap can hold only 1048576`,
      remedy: 'Check the store of signatures that the bundle was pulled with, or pull again from another one with --release-signatures',
    },
  );
});
