import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, realpath, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { checkScratch } from '../../../agent/load/scratch.ts';
import { errorRecord } from '../../../agent/model/errors.ts';

describe('the scratch directory that is asked for', () => {
  let work = '';
  before(async () => {
    work = await realpath(await mkdtemp(join(tmpdir(), 'scratch-')));
  });
  after(async () => await rm(work, { recursive: true, force: true }));

  const refusal = async (root: string, wanted: string) => {
    const { code, message } = errorRecord(
      await checkScratch({ root }, wanted).then(
        () => assert.fail('it was taken'),
        (error: unknown) => error,
      ),
    );
    return [code, message.replace(/^.* deletes there: /, '')];
  };

  it('is refused on a node below a sticky directory that everybody can write to, whoever owns what is in there', async () => {
    // The temporary files of this test lie in such a directory, and what is in there is its own.
    assert.deepEqual(await refusal('/', work), ['ERR_SCRATCH', `/tmp is writable for other users (mode 1777)`]);
    assert.deepEqual(await refusal('/', '/tmp/that/is/not/there'), ['ERR_SCRATCH', `/tmp is writable for other users (mode 1777)`]);
  });

  it('is refused when a directory on the way can be written by others, also when it is not there itself', async () => {
    await mkdir(join(work, 'open'));
    await chmod(join(work, 'open'), 0o777);
    for (const wanted of ['open', 'open/not/there'])
      assert.deepEqual(await refusal(work, join(work, wanted)), [
        'ERR_SCRATCH',
        `${join(work, 'open')} is writable for other users (mode 777)`,
      ]);
  });

  it('is used by its canonical path, so that no link on the way is asked again', async () => {
    await mkdir(join(work, 'real'));
    await symlink('real', join(work, 'link'));
    assert.equal(await checkScratch({ root: work }, join(work, 'link/new')), join(work, 'real/new'));
    assert.equal(await checkScratch({ root: '/' }, '/proc/../usr'), '/usr');
    assert.equal(await checkScratch({ root: '/' }, undefined), undefined);
  });
});
