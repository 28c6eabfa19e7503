import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { it } from 'node:test';
import { linuxHost } from '../../../agent/host/linux.ts';
import { additionalStores, storesOfCrioConf, storesOfStorageConf } from '../../../agent/storage/additional-stores.ts';

it('Every configuration names additional stores, and those that are there count beside ours', async () => {
  const root = await mkdtemp(join(tmpdir(), 'stores-'));
  try {
    const [one, two, gone] = [join(root, 'one'), join(root, 'two'), join(root, 'gone')];
    await mkdir(one);
    await mkdir(two);
    const put = async (path: string, text: string) => {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), text);
    };
    await put(
      'etc/containers/storage.conf',
      `[storage.options]\nadditionalimagestores = ["/var/lib/prestage-agent/store", "${one}", "${gone}"]\n`,
    );
    await put('etc/crio/crio.conf', 'this is no TOML\n');
    await put('etc/crio/crio.conf.d/10-other', `[crio]\nstorage_option = ["overlay.mountopt=nodev", "additionalimagestore=${two}"]\n`);
    const host = linuxHost({ root, env: {}, log: () => undefined });
    assert.deepEqual(await additionalStores(host), [join(root, 'var/lib/prestage-agent/store'), one, two]);
  } finally {
    await rm(root, { recursive: true });
  }
});

it('A storage.conf without additional stores names none, and an option of CRI-O names one in each of its spellings', () => {
  assert.deepEqual(storesOfStorageConf({ storage: { driver: 'overlay' } }), []);
  const storage_option = [
    'additionalimagestore=/a',
    'overlay.additionalimagestore=/b',
    'overlay.imagestore=/c',
    'imagestore=/d',
    'overlay.size=1',
  ];
  assert.deepEqual(storesOfCrioConf({ crio: { storage_option } }), ['/a', '/b', '/c', '/d']);
});
