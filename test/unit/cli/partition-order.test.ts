import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, test } from 'node:test';
import { isNameOf } from '../../../agent/cli/confirm.ts';
import { bundleAndTarget, imageArguments } from '../../../agent/cli/partition-order.ts';
import { errorRecord } from '../../../agent/model/errors.ts';

describe('a bundle and its target', () => {
  let work: string;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'order-'));
    await mkdir(join(work, 'bundle'));
    await writeFile(join(work, 'disk.img'), '');
  });
  after(async () => await rm(work, { recursive: true }));

  it('are told apart by what they are, in any order', async () => {
    const [bundle, target, missing] = [join(work, 'bundle'), join(work, 'disk.img'), join(work, 'new.img')];
    for (const there of [target, missing]) {
      assert.deepEqual(await bundleAndTarget(bundle, there), { bundle, target: there });
      assert.deepEqual(await bundleAndTarget(there, bundle), { bundle, target: there });
    }
  });

  it('are taken in the order of the help if neither or both are folders', async () => {
    assert.deepEqual(await bundleAndTarget('/no/a', '/no/b'), { bundle: '/no/a', target: '/no/b' });
    assert.deepEqual(await bundleAndTarget(work, join(work, 'bundle')), { bundle: work, target: join(work, 'bundle') });
  });

  it('can also be given as one argument and --bundle', async () => {
    const bundle = join(work, 'bundle');
    assert.deepEqual(await imageArguments(['new.img'], bundle), { bundle, target: 'new.img' });
    assert.deepEqual(await imageArguments(['new.img', bundle], undefined), { bundle, target: 'new.img' });
  });

  it('must both be given, and each once', async () => {
    assert.deepEqual(await imageArguments(['new.img'], undefined).catch(errorRecord), {
      code: 'ERR_USAGE',
      message: 'only new.img is given, but an image needs a bundle and a file',
      remedy: 'Give both: prestage-agent partition image BUNDLE OUT',
    });
    assert.deepEqual(await imageArguments(['a', 'b'], 'c').catch(errorRecord), {
      code: 'ERR_USAGE',
      message: 'the bundle is given as c, so only one argument is expected',
      remedy: 'Omit --bundle, or give only the file to create',
    });
  });
});

test('a disk is confirmed by its path, by a relative path of it, or by its bare name', () => {
  for (const typed of ['/srv/disk.img', 'disk.img', './disk.img', '../srv/disk.img', ' disk.img '])
    assert.ok(isNameOf(typed, '/srv/disk.img', '/srv'), typed);
  for (const typed of ['nvme0n1', '/dev/nvme0n1']) assert.ok(isNameOf(typed, '/dev/nvme0n1', '/root'), typed);
});

test('anything else confirms nothing', () => {
  for (const typed of ['', ' ', 'yes', '.', '/dev/nvme0n1p1', 'nvme0', 'dev/nvme0n1', '/srv/nvme0n1'])
    assert.equal(isNameOf(typed, '/dev/nvme0n1', '/root'), false, typed);
});
