import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type ExecResult, execOnLinux, output, shellExitCode } from '../../agent/host/exec.ts';
import { BUNDLE_FILE, PARTIAL_FILE } from '../../agent/model/bundle.ts';
import { mountPointsBelow } from '../support/agent.ts';
import { hashesBelow, listOf } from '../support/build.ts';
import { TOP } from '../support/cache.ts';
import { COMPILE_CACHE } from '../support/compile-cache.ts';
import { makeDisk } from '../support/disk.ts';
import { makeLayer } from '../support/image-layer.ts';
import { type MadeImage, makeIndex, writeOciLayout } from '../support/images.ts';
import { sealFiles } from '../support/prestage.ts';
import { startRegistry } from '../support/registry.ts';
import { makeTinyBundle, tinyImage } from '../support/tiny-bundle.ts';
import { type Cut, cutPowerOf, type FileSystem, makeCutDisk } from './cut-disk.ts';
import type { PoweredPlace, PowerScenario, StartedCommand } from './trial.ts';

const MIB = 1024 * 1024;

/** A command of the factory from its sources, that is killed with all that it has started. */
interface FactoryCommand extends StartedCommand {
  kill(): void;
}

function startAgent(args: readonly string[], root: string): FactoryCommand {
  const child = spawn(process.execPath, [join(TOP, 'agent/main.ts'), ...args], {
    env: { ...process.env, ...COMPILE_CACHE, PRESTAGE_ROOT: root },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const [stdout, stderr] = [text(child.stdout), text(child.stderr)];
  const ended = once(child, 'exit').then(
    async ([code, signal]): Promise<ExecResult> => ({
      exitCode: shellExitCode(code, signal),
      stdout: await stdout,
      stderr: await stderr,
    }),
  );
  return {
    ended,
    kill: () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    },
  };
}

interface FolderCommand {
  /** Arguments with which the command writes into a folder. */
  args(to: string): readonly string[];
  /** Whether what lies in the folder claims to be whole. */
  isWhole(to: string): boolean;
  /** What is compared with an undisturbed end; it leaves out what has the time of the day in it. */
  end(to: string): Promise<unknown>;
}

/** A folder on a disk whose power is cut; what the command reads lies elsewhere. */
async function openFolder(fileSystem: FileSystem, command: FolderCommand): Promise<PoweredPlace> {
  const disk = await makeCutDisk(fileSystem);
  const root = await mkdtemp(join(tmpdir(), 'cut-root-'));
  const to = join(disk.directory, 'to');
  const running: FactoryCommand[] = [];
  const killAll = (): void => {
    for (const one of running.splice(0)) one.kill();
  };
  const verify = async (): Promise<void> => await assertVerified(to);
  return {
    start: () => {
      const started = startAgent(command.args(to), root);
      running.push(started);
      return started;
    },
    sync: async () => await disk.sync(),
    cut: async (how) => await disk.cut(how),
    reboot: async () => {
      killAll();
      await disk.reboot();
    },
    claimsDone: async () => command.isWhole(to),
    verify,
    verifyKept: async (isClaimed) => (isClaimed ? await verify() : undefined),
    end: async () => await command.end(to),
    [Symbol.asyncDispose]: async () => {
      killAll();
      await disk[Symbol.asyncDispose]();
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** `verify` reads every byte. */
async function assertVerified(path: string, ...more: readonly string[]): Promise<void> {
  const { exitCode, stdout, stderr } = await execOnLinux(process.execPath, [join(TOP, 'agent/main.ts'), 'verify', path, ...more], {
    env: COMPILE_CACHE,
  });
  assert.equal(exitCode, 0, stdout + stderr);
}

/** Images from a real registry on loopback: by tag, by digest, and a list of two platforms. */
function pulling(format: 'oci' | 'archives'): PowerScenario {
  return {
    name: `pull into ${format}`,
    prepare: async () => {
      const stack = new AsyncDisposableStack();
      const work = await mkdtemp(join(tmpdir(), 'cut-pull-'));
      stack.defer(async () => await rm(work, { recursive: true, force: true }));
      const registry = stack.use(await startRegistry({ near: work }));
      const references = await registry.add(work, await someImages(work));
      const list = join(work, 'ai-images.txt');
      await writeFile(list, references.map((reference) => `${reference}\n`).join(''));
      const command: FolderCommand = {
        args: (to) => ['pull', '--list', list, '--to', to, '--format', format, '--no-tls-verify', '--retries', '0'],
        isWhole: (to) => existsSync(join(to, format === 'oci' ? 'index.json' : 'ai-images.txt')),
        end: hashesBelow,
      };
      return {
        open: async (fileSystem) => await openFolder(fileSystem, command),
        [Symbol.asyncDispose]: async () => await stack.disposeAsync(),
      };
    },
  };
}

async function someImages(store: string): Promise<readonly MadeImage[]> {
  const base = await makeLayer(store, [{ kind: 'file', path: 'etc/base', content: 'base'.repeat(MIB) }]);
  const [tag, digest, other] = [await tinyImage(store, base, 0), await tinyImage(store, base, 1), await tinyImage(store, base, 2)];
  return [tag, digest, await makeIndex(store, { name: 'quay.io/example/list', format: 'docker', instances: [other] })];
}

/** From an OCI layout on another file system: everything is copied, and a store is composed. */
const building: PowerScenario = {
  name: 'build',
  prepare: async () => {
    const work = await mkdtemp(join(tmpdir(), 'cut-build-'));
    const { store, images } = await makeTinyBundle(work, 3);
    const from = join(work, 'pulled');
    await mkdir(from);
    await writeOciLayout(store, images, from);
    await writeFile(join(from, 'ai-images.txt'), listOf(images));
    const command: FolderCommand = {
      args: (to) => ['build', '--from', from, '--to', to, '--payload', 'oci', '--payload', 'registry', '--payload', 'store'],
      isWhole: (to) => existsSync(join(to, BUNDLE_FILE)) && !existsSync(join(to, PARTIAL_FILE)),
      end: async (to) => Object.keys(await hashesBelow(to)),
    };
    return {
      open: async (fileSystem) => await openFolder(fileSystem, command),
      [Symbol.asyncDispose]: async () => await rm(work, { recursive: true, force: true }),
    };
  },
};

const OLD = {
  'archives/kept.tgz': 'the same in both',
  'archives/changed.tgz': 'of the old bundle',
  'archives/old.tgz': 'only in the old one',
};
const NEW = {
  'archives/kept.tgz': 'the same in both',
  'archives/changed.tgz': 'of the new one.',
  'archives/big.tgz': new Uint8Array(24 * MIB).fill(7),
  'prestage-agent': 'executable',
};

/** Over an earlier bundle; the power is that of the data partition. */
const writing: PowerScenario = {
  name: 'partition write',
  prepare: async () => {
    const work = await mkdtemp(join(tmpdir(), 'cut-write-'));
    const [older, newer] = [join(work, 'old'), join(work, 'new')];
    await sealFiles(older, OLD);
    await sealFiles(newer, NEW);
    return {
      open: async (fileSystem) => await openPartition(fileSystem, { work, older, newer }),
      [Symbol.asyncDispose]: async () => await rm(work, { recursive: true, force: true }),
    };
  },
};

interface WrittenBundles {
  readonly work: string;
  readonly older: string;
  readonly newer: string;
}

async function openPartition(fileSystem: FileSystem, { work, older, newer }: WrittenBundles): Promise<PoweredPlace> {
  const label = `cut-${process.pid}`;
  const disk = await makeDisk({ directory: work, label, partitionMiB: 320, filesystem: fileSystem });
  const root = await mkdtemp(join(work, 'root-'));
  const serial = (await output(execOnLinux, 'losetup', ['--noheadings', '--output', 'BACK-FILE', disk.device])).trim();
  const args = (bundle: string) => ['partition', 'write', bundle, disk.device, '--label', label, '--yes', '--expect-serial', serial];
  let running: FactoryCommand | undefined;
  const off = async (): Promise<void> => {
    running?.kill();
    await running?.ended;
    for (const point of (await mountPointsBelow(root)).toReversed()) await output(execOnLinux, 'umount', [point]);
  };
  const dispose = async (): Promise<void> => {
    await off();
    await disk[Symbol.asyncDispose]();
    await rm(root, { recursive: true, force: true });
  };
  const seen = async <T>(look: (top: string) => Promise<T>): Promise<T> => {
    const top = join(root, 'seen');
    await mkdir(top, { recursive: true });
    await output(execOnLinux, 'mount', [disk.partition, top]);
    try {
      return await look(top);
    } finally {
      await output(execOnLinux, 'umount', [top]);
    }
  };
  const claimsDone = async (): Promise<boolean> =>
    await seen(async (top) => !existsSync(join(top, PARTIAL_FILE)) && (await sameFile(join(top, BUNDLE_FILE), join(newer, BUNDLE_FILE))));
  const verify = async (): Promise<void> => assert.deepEqual(await seen(hashesBelow), await hashesBelow(newer));
  const first = await startAgent(args(older), root).ended;
  if (first.exitCode !== 0) {
    await dispose();
    throw new Error(first.stderr);
  }
  return {
    start: () => {
      running = startAgent(args(newer), root);
      return running;
    },
    sync: async () => void (await output(execOnLinux, 'sync', [])),
    cut: async (what: Cut) => {
      for (const point of await mountPointsBelow(root)) await cutPowerOf(disk.partition, point, what);
    },
    reboot: off,
    claimsDone,
    verify,
    verifyKept: async (isClaimed) => (isClaimed ? await verify() : undefined),
    end: async () =>
      await seen(async (top) => (await readdir(top, { recursive: true })).filter((name) => name !== 'lost+found').toSorted()),
    [Symbol.asyncDispose]: dispose,
  };
}

async function sameFile(one: string, other: string): Promise<boolean> {
  const bytes = await readFile(one).catch(() => Buffer.alloc(0));
  return bytes.equals(await readFile(other));
}

export const factoryPowerScenarios: readonly PowerScenario[] = [pulling('oci'), pulling('archives'), building, writing];
