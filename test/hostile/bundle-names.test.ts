import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readStageBundle } from '../../agent/bundle/read-payload.ts';
import { errorRecord } from '../../agent/model/errors.ts';
import { type Change, inPayload, makeNamedBundle, type NamedBundle, names } from '../support/named-bundle.ts';

/** What programs could take for an option, a path, a word of a shell, a line of a unit, a field of a mount or another kind of image. */
const HOSTILE: readonly string[] = [
  '--privileged',
  '-v/:/host',
  '../../../etc/passwd',
  '/etc/passwd',
  'quay.io/example/x:v1\n[Service]\nExecStartPre=/bin/touch /tmp/owned',
  'quay.io/example/$(touch /tmp/owned):v1',
  'quay.io/example/a b:v1',
  'quay.io/example/x:v1,destination=/etc',
  'quay.io/example/"x":v1',
  'quay.io/../x:v1',
  'quay.io/example/x:v1\u0000',
  'quay.io/example/\u001b[2Jx:v1',
  'dir:/etc',
  'docker://quay.io/example/x:v1',
  'containers-storage:[overlay@/etc]x',
];
/** The names among them that no path can be, wherever it stands. */
const HOSTILE_PATHS = HOSTILE.filter(
  (text) => ['.', '/'].includes(text.charAt(0)) || ['\n', '\u0000', '\u001b'].some((one) => text.includes(one)),
);

const paths: Readonly<Record<string, Change>> = {
  'a file': ({ files }, value) => void files.push({ ...files[0], path: value }),
  'a layout': inPayload('oci', 'path'),
  'a store image': inPayload('store', 'image'),
  'the mirror of a store': inPayload('store', 'mirror'),
  'a registry tree': inPayload('registry', 'path'),
};

describe('a name in a manifest that nobody pinned', () => {
  let work: string;
  let bundle: NamedBundle;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'bundle-names-'));
    bundle = await makeNamedBundle(work);
  });
  after(async () => await rm(work, { recursive: true, force: true }));

  const readError = async (): Promise<string | undefined> =>
    await readStageBundle({ directory: bundle.directory, stage: 'installed', architecture: 'amd64', pinnedSha256: undefined }).then(
      () => undefined,
      (error: unknown) => errorRecord(error).code,
    );

  it('that is one is read', async () => {
    await bundle.rename(() => undefined, '');
    assert.equal(await readError(), undefined);
  });

  for (const [what, change] of Object.entries(names)) {
    it(`is refused where it is hostile: ${what}`, async () => {
      for (const value of HOSTILE) {
        await bundle.rename(change, value);
        assert.equal(await readError(), 'ERR_REFERENCE', value);
      }
    });
  }

  for (const [what, change] of Object.entries(paths)) {
    it(`is refused where it leads out, or is more than a path: ${what}`, async () => {
      for (const value of HOSTILE_PATHS) {
        await bundle.rename(change, value);
        assert.equal(await readError(), 'ERR_BUNDLE', value);
      }
    });
  }
});
