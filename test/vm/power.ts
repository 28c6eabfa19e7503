import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ExecResult, execOnLinux, output } from '../../agent/host/exec.ts';
import { DISK_COPY_PATH } from '../../agent/model/places.ts';
import { runStateOf } from '../../agent/model/run-state.ts';
import { unsealRecord } from '../../agent/model/seal.ts';
import { DURABLE_STATE } from '../../agent/state/run-record.ts';
import { makeImage } from '../boot/disk.ts';
import type { Bundle, PayloadKind } from '../boot/factory.ts';
import type { Cut, FileSystem } from '../power/cut-disk.ts';
import type { PoweredPlace, PowerScenario } from '../power/trial.ts';
import { verifyImages } from '../power/verify-node.ts';
import { UP_LIMIT_MS } from './chain.ts';
import type { VirtualMachine } from './machine.ts';
import type { VmTrial } from './trial.ts';

interface RunOptions {
  readonly name: string;
  readonly payload: PayloadKind;
  readonly delivery: readonly string[];
}

const RUNS: readonly RunOptions[] = [
  { name: 'extract, in a virtual machine', payload: 'oci', delivery: ['extract'] },
  {
    name: 'mount from a copy on the disk with dm-verity, in a virtual machine',
    payload: 'store',
    delivery: ['mount', '--placement', 'disk', '--trust', 'verity'],
  },
];
const AGENT = '/usr/local/bin/prestage-agent';
const NODE_MIB = 2048;
/** A file that is written after each cut, to see that it is lost. */
const AFTER_CUT = '/var/after-cut';
/** The installed system lies on the third disk, behind a device whose writes can be dropped. */
const WORDS = ['vm.upper=/dev/vdc', 'vm.flakey=1'];

/** Runs on a node whose disk stops to take what the kernel writes. Machines of all of them are made one after the other. */
export function vmPowerScenarios(trial: VmTrial): readonly PowerScenario[] {
  return RUNS.map((run) => ({
    name: run.name,
    prepare: async () => {
      const bundle = await trial.factory.bundle(run.payload);
      const data = await trial.factory.disk(trial.work, `data-${run.payload}.img`, bundle);
      return {
        open: async (fileSystem) => await openPlace(trial, { run, bundle, data }, fileSystem),
        [Symbol.asyncDispose]: async () => undefined,
      };
    },
  }));
}

interface Prepared {
  readonly run: RunOptions;
  readonly bundle: Bundle;
  readonly data: string;
}

async function openPlace(trial: VmTrial, { run, bundle, data }: Prepared, fileSystem: FileSystem): Promise<PoweredPlace> {
  const disk = await makeNodeDisk(trial, fileSystem);
  const start = async (): Promise<VirtualMachine> => {
    const started = await trial.start({ words: WORDS, disks: [data, disk] });
    await started.settled(UP_LIMIT_MS);
    return started;
  };
  let machine = await start();
  const args = ['run', '--stage', 'installed', '--label', 'data', '--bundle-sha256', bundle.sha256 ?? '', '--delivery', ...run.delivery];
  const durable = async () => await durableState(machine);
  const verify = async (): Promise<void> => {
    await verifyImages(
      { exec: async (file, given, options) => await machine.run(['env', ...variables(options?.env), file, ...given]) },
      bundle.set.installed,
      'containers-storage',
    );
  };
  return {
    start: () => ({ ended: machine.run([AGENT, ...args]).catch(cutOff) }),
    sync: async () => void (await machine.output(['sync'])),
    cut: async (what) => await dropWrites(machine, what),
    reboot: async () => {
      await machine.kill();
      machine = await start();
      const { exitCode } = await machine.run(['test', '-e', AFTER_CUT]);
      assert.equal(exitCode, 1, 'what was written and synced after the cut is there: no power was cut');
    },
    claimsDone: async () => (await durable())?.outcome === 'complete',
    verify,
    verifyKept: async (isClaimed) => {
      await verifyCopies(machine);
      if (isClaimed && run.payload === 'oci') await verify();
    },
    end: async () => await machine.output(['sh', '-c', END]),
    [Symbol.asyncDispose]: async () => await machine[Symbol.asyncDispose](),
  };
}

/** What equal ends have in common: the engines' files, and the names of ours. */
const END = `
find /etc/containers -type f -exec sha256sum {} + | sort -k 2
find /var/lib/prestage-agent -xdev -mindepth 1 -printf '%P %y\\n' | grep -v '^state.json f$' | sort
`;

/** As every node has it; the file belongs to the Machine Config Operator. */
const STORAGE_CONF_OF_NODE =
  '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n';

/** An installed system with nothing but the executable and the configuration of its storage. */
async function makeNodeDisk(trial: VmTrial, fileSystem: FileSystem): Promise<string> {
  const image = await makeImage(join(trial.work, 'node.img'), NODE_MIB);
  await output(execOnLinux, `mkfs.${fileSystem}`, ['-q', image]);
  const top = join(trial.work, 'node');
  await mkdir(top, { recursive: true });
  await output(execOnLinux, 'mount', ['-o', 'loop', image, top]);
  const programs = join(top, 'var/usrlocal/bin');
  await mkdir(programs, { recursive: true });
  await output(execOnLinux, 'cp', [trial.factory.executable, join(programs, 'prestage-agent')]);
  const containers = join(top, 'deploy/upper/etc/containers');
  await mkdir(containers, { recursive: true });
  await writeFile(join(containers, 'storage.conf'), STORAGE_CONF_OF_NODE);
  await output(execOnLinux, 'umount', [top]);
  return image;
}

/**
 * From here on the disk drops every write and says that it was done; what was not written back yet is lost with the machine. `log`: the log of the
 * file system is forced before, which has the metadata of the last moments and not the data. A suspension that froze the file system would write
 * all of it. Source: Linux, Documentation/admin-guide/device-mapper/dm-flakey.rst; dmsetup(8), --nolockfs.
 */
async function dropWrites(machine: VirtualMachine, what: Cut): Promise<void> {
  const force = what === 'log' ? ': >/var/forced; sync /var/forced;' : '';
  const table = '0 $(blockdev --getsz /dev/vdc) flakey /dev/vdc 0 0 3600 1 drop_writes';
  const script = `set -e; ${force} dmsetup suspend --nolockfs disk; dmsetup load disk --table "${table}"; dmsetup resume disk; dmsetup table disk; : >${AFTER_CUT}; sync ${AFTER_CUT}`;
  assert.match(await machine.output(['sh', '-c', script]), /drop_writes/);
}

/** The durable record of the last run; undefined where there is none. */
async function durableState(machine: VirtualMachine) {
  const { stdout, exitCode } = await machine.run(['cat', DURABLE_STATE]);
  if (exitCode !== 0) return undefined;
  const state = runStateOf(unsealRecord(stdout));
  assert.ok(state, `the state on the disk is damaged: ${stdout.length} bytes`);
  return state;
}

/** Copies of store images are named for their sha256, and their name is what a later boot goes by. */
async function verifyCopies(machine: VirtualMachine): Promise<void> {
  const sums = await machine.output([
    'sh',
    '-c',
    `for file in ${DISK_COPY_PATH}/*.squashfs; do [ ! -e "$file" ] || sha256sum "$file"; done`,
  ]);
  for (const line of sums.split('\n').filter(Boolean)) {
    const [sum = '', file = ''] = line.split(/ +/);
    assert.ok(file.endsWith(`/${sum}.squashfs`), line);
  }
}

function variables(env: Readonly<Record<string, string>> = {}): readonly string[] {
  return Object.entries(env).map(([name, value]) => `${name}=${value}`);
}

/** A program of a machine that was killed. */
function cutOff(error: unknown): ExecResult {
  return { exitCode: 128 + 9, stdout: '', stderr: String(error) };
}
