import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { STORE_PATH } from '../../agent/model/places.ts';
import { editData } from '../boot/disk.ts';
import { flipByte } from '../boot/scenarios/damage.ts';
import { statusOf, unitFacts } from '../boot/unit.ts';
import { INSTALLED_UNIT, INSTALLED_WORDS, type LivedDisk, told, UP_LIMIT_MS } from './chain.ts';
import type { VirtualMachine } from './machine.ts';
import { type VmTrial, withVm } from './trial.ts';

const STORE = 'store/installed.squashfs';
const DEVICE = 'prestage-installed';

/** One byte of the store image on the partition is another: the kernel refuses its block, and the agent makes the engines work without the store. */
export async function damageStore(trial: VmTrial, { image }: LivedDisk): Promise<void> {
  await told(trial, 'one byte of a file is wrong', async () => {
    await flipped(image, undefined, async () => await withVm(trial, { words: INSTALLED_WORDS, disks: [image] }, findWhenRead));
  });
  await told(trial, 'one byte of the tables is wrong', async () => {
    await flipped(image, endOfTables, async () => await withVm(trial, { words: INSTALLED_WORDS, disks: [image] }, findAtMount));
  });
}

/** What nobody reads shows to nobody: the run ends well; who reads the block gets an error, and check-store heals. */
async function findWhenRead(machine: VirtualMachine): Promise<void> {
  await machine.settled(UP_LIMIT_MS);
  assert.equal((await unitFacts(machine, INSTALLED_UNIT)).exitCode, 0);
  const read = await machine.run(['find', STORE_PATH, '-type', 'f', '-exec', 'sha256sum', '{}', '+']);
  assert.match(read.stderr, /Input\/output error/);
  assert.match(await machine.output(['journalctl', '-b', '-k', '-o', 'cat', '--no-pager']), /verity: .*data block \d+ is corrupted/);
  const checked = await machine.run(['/usr/local/bin/prestage-agent', 'check-store']);
  assert.equal(checked.exitCode, 3, `${checked.stdout}${checked.stderr}`);
  await assertHealed(machine);
}

/** A mount reads the tables: the run itself finds it. */
async function findAtMount(machine: VirtualMachine): Promise<void> {
  await machine.settled(UP_LIMIT_MS);
  assert.notEqual((await unitFacts(machine, INSTALLED_UNIT)).exitCode, 0);
  await assertHealed(machine);
}

/** Engines work, with an empty store in the place of the one that is wrong, and nothing is held; the status says what is to be done. */
async function assertHealed(machine: VirtualMachine): Promise<void> {
  const status = await statusOf(machine);
  assert.deepEqual([status.readiness, status.run?.store], ['failed', undefined], status.reason);
  assert.match(status.nextStep, /[Ww]rite the bundle/);
  assert.deepEqual(JSON.parse(await machine.output(['cat', `${STORE_PATH}/overlay-images/images.json`])), []);
  assert.equal(await machine.output(['sh', '-c', `grep -c ' ${STORE_PATH} ' /proc/mounts; :`]), '0');
  assert.equal(await machine.output(['sh', '-c', `ls /dev/mapper | grep -c ${DEVICE}; :`]), '0');
  await machine.output(['podman', 'images']);
  assert.equal(await machine.powerOff(), 'off');
}

/** Does something while one byte of the store image is another, and brings it back. */
async function flipped(image: string, place: ((path: string) => Promise<number>) | undefined, act: () => Promise<void>): Promise<void> {
  const flip = async (): Promise<void> =>
    await editData(image, async (top) => await flipByte(join(top, STORE), await place?.(join(top, STORE))));
  await flip();
  await act();
  await flip();
}

/** Where the last table of a squashfs ends, less some bytes. Source: Linux, fs/squashfs/squashfs_fs.h: bytes_used of the super block. */
async function endOfTables(path: string): Promise<number> {
  await using file = await open(path);
  const { buffer } = await file.read(Buffer.alloc(8), 0, 8, 40);
  return Number(buffer.readBigUInt64LE()) - 16;
}
