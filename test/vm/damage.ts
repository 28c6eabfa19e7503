import assert from 'node:assert/strict';
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { exitCodes } from '../../agent/model/errors.ts';
import { STORE_PATH } from '../../agent/model/places.ts';
import { editData } from '../boot/disk.ts';
import { flipByte } from '../boot/scenarios/damage.ts';
import { statusOf, unitFacts } from '../boot/unit.ts';
import { INSTALLED_UNIT, INSTALLED_WORDS, type LivedDisk, told, UP_LIMIT_MS } from './chain.ts';
import type { VirtualMachine } from './machine.ts';
import { type VmTrial, withVm } from './trial.ts';

const STORE = 'store/installed.squashfs';
const DEVICE = 'prestage-installed';

/** Bytes of the store image on the partition are others: the kernel refuses their blocks, and the agent makes the engines work without the store. */
export async function damageStore(trial: VmTrial, { image }: LivedDisk): Promise<void> {
  const cases: readonly (readonly [string, Places, (machine: VirtualMachine) => Promise<void>])[] = [
    ['one byte of a file is wrong', async (path) => [Math.floor((await stat(path)).size / 8)], findWhenRead],
    ['many files are wrong, of the registry too', manyPlaces, assertFound],
    ['one byte of the tables is wrong', async (path) => [await endOfTables(path)], assertFound],
  ];
  for (const [what, places, find] of cases) {
    await told(trial, what, async () => {
      await flipped(image, places, async () => await withVm(trial, { words: INSTALLED_WORDS, disks: [image] }, find));
    });
  }
}

/** What nobody reads shows to nobody: the run ends well where the registry does without it; who reads the block gets an error, and check-store heals. */
async function findWhenRead(machine: VirtualMachine): Promise<void> {
  if ((await exitCodeOfRun(machine)) !== 0) return await assertFound(machine);
  await machine.settled(UP_LIMIT_MS);
  const read = await machine.run(['find', STORE_PATH, '-type', 'f', '-exec', 'sha256sum', '{}', '+']);
  assert.match(read.stderr, /Input\/output error/);
  assert.match(await machine.output(['journalctl', '-b', '-k', '-o', 'cat', '--no-pager']), /verity: .*data block \d+ is corrupted/);
  const checked = await machine.run(['/usr/local/bin/prestage-agent', 'check-store']);
  assert.equal(checked.exitCode, exitCodes.payload, `${checked.stdout}${checked.stderr}`);
  await assertHealed(machine);
}

/** The run has found it: a mount reads the tables, and the registry is started from the store. By the open policy a fault is told by 64 more than its exit code, which the unit takes for a success. */
async function assertFound(machine: VirtualMachine): Promise<void> {
  assert.equal(await exitCodeOfRun(machine), 64 + exitCodes.payload);
  await assertHealed(machine);
}

/** Waits for our unit alone: without its images, and without a network, what comes after it never ends. systemctl(1), start, waits for a job that is there. */
async function exitCodeOfRun(machine: VirtualMachine): Promise<number> {
  await machine.run(['systemctl', 'start', INSTALLED_UNIT]);
  return (await unitFacts(machine, INSTALLED_UNIT)).exitCode;
}

/** Engines work, with an empty store in the place of the one that is wrong, and nothing is held; the status says what is to be done. */
async function assertHealed(machine: VirtualMachine): Promise<void> {
  const status = await statusOf(machine);
  assert.deepEqual([status.readiness, status.run?.store], ['degraded', undefined], status.reason);
  assert.match(status.nextStep, /[Ww]rite the bundle/);
  assert.deepEqual(JSON.parse(await machine.output(['cat', `${STORE_PATH}/overlay-images/images.json`])), []);
  assert.equal(await machine.output(['sh', '-c', `grep -c ' ${STORE_PATH} ' /proc/mounts; :`]), '0');
  assert.equal(await machine.output(['sh', '-c', `ls /dev/mapper | grep -c ${DEVICE}; :`]), '0');
  await machine.output(['podman', 'images']);
  assert.equal(await machine.powerOff(), 'off');
}

/** Offsets in a store image. */
type Places = (path: string) => Promise<readonly number[]>;

/** Does something while some bytes of the store image are others, and brings them back. */
async function flipped(image: string, places: Places, act: () => Promise<void>): Promise<void> {
  const flip = async (): Promise<void> =>
    await editData(image, async (top) => {
      const path = join(top, STORE);
      for (const place of await places(path)) await flipByte(path, place);
    });
  await flip();
  await act();
  await flip();
}

/** One in each 64 KiB of the middle half: no program of megabytes is spared. mksquashfs(1) puts small files, as the records are, and tables last. */
async function manyPlaces(path: string): Promise<readonly number[]> {
  const { size } = await stat(path);
  const count = Math.floor(size / 2 / 65_536);
  return Array.from({ length: count }, (_, index) => Math.floor(size / 4) + index * 65_536);
}

/** Where the last table of a squashfs ends, less some bytes. Source: Linux, fs/squashfs/squashfs_fs.h: bytes_used of the super block. */
async function endOfTables(path: string): Promise<number> {
  await using file = await open(path);
  const { buffer } = await file.read(Buffer.alloc(8), 0, 8, 40);
  return Number(buffer.readBigUInt64LE()) - 16;
}
