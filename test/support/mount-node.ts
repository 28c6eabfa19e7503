import { once } from 'node:events';
import { constants } from 'node:fs';
import { cp, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { execOnLinux, output, shellExitCode } from '../../agent/host/exec.ts';
import { parseRunState, type RunState } from '../../agent/model/run-state.ts';
import type { StatusReport } from '../../agent/status/assess.ts';
import { listOf, runBuild } from './build.ts';
import { disksUnavailable, fillDisk, makeDisk, type TestDisk } from './disk.ts';
import { builtExecutable } from './executable.ts';
import { runnableRoot } from './image-files.ts';
import { type LayerEntry, makeLayer } from './image-layer.ts';
import { type MadeImage, makeImage, makeIndex, writeOciLayout } from './images.ts';
import { makeRegistryImage } from './registry-image.ts';
import { type NodeSandbox, openSandbox, type SandboxExecOptions, type SandboxOptions, sandboxUnavailable } from './sandbox.ts';

/** Images of some MB over one base; `sh` and `cat` run in all but the registry. Each has its key in /etc/name. */
export interface MountImages {
  readonly tag: MadeImage;
  readonly digest: MadeImage;
  /** The digest of a list with amd64 and arm64. */
  readonly list: MadeImage;
  readonly registry: MadeImage;
}

/** A bundle with store images of both stages, as `pull` and `build` make it. */
export interface MountFixture extends AsyncDisposable {
  readonly work: string;
  /** Where blobs lie. */
  readonly blobs: string;
  readonly images: MountImages;
  readonly all: readonly MadeImage[];
  /** The bundle's directory: not to be changed. */
  readonly bundle: string;
  readonly executable: string;
}

/** Why nodes with a data partition cannot be made here, in words; undefined where they can. */
export async function mountNodesUnavailable(): Promise<string | undefined> {
  return sandboxUnavailable() ?? (await disksUnavailable());
}

/** Builds the bundle below a directory of its own. Takes some seconds. */
export async function makeMountFixture(payloads: readonly ('store' | 'oci')[] = ['store']): Promise<MountFixture> {
  const executable = await builtExecutable();
  const work = await mkdtemp('/tmp/run-mount-');
  const blobs = join(work, 'blobs-of');
  await mkdir(blobs);
  const images = await makeMountImages(blobs);
  const all = Object.values(images);
  const bundle = join(work, 'bundle');
  await buildBundle({ blobs, images: all, payloads, directory: bundle });
  return {
    work,
    blobs,
    images,
    all,
    bundle,
    executable,
    [Symbol.asyncDispose]: async () => await rm(work, { recursive: true, force: true }),
  };
}

export interface BundleSpec {
  readonly blobs: string;
  readonly images: readonly MadeImage[];
  readonly payloads?: readonly ('store' | 'oci')[];
  readonly directory: string;
}

/** The store image of such a bundle: stages of equal images share one. */
export const STORE_IMAGE = 'store/all.squashfs';

/** Builds a bundle of some images for both stages. */
export async function buildBundle({ blobs, images, payloads = ['store'], directory }: BundleSpec): Promise<void> {
  const pulled = `${directory}-pulled`;
  await mkdir(pulled);
  await writeOciLayout(blobs, images, pulled);
  for (const list of ['ai-images.txt', 'ocp-images.txt']) await writeFile(join(pulled, list), listOf(images));
  await runBuild({ from: pulled, to: directory, payloads: [...payloads] });
}

async function makeMountImages(blobs: string): Promise<MountImages> {
  const base = await makeLayer(blobs, await runnableRoot(['sh', 'cat', 'sleep']));
  const own = async (name: string) => [base, await makeLayer(blobs, named(name))];
  const oci = { name: 'quay.io/example/tool', format: 'oci' } as const;
  return {
    tag: await makeImage(blobs, { ...oci, tag: 'v1', layers: await own('tag') }),
    digest: await makeImage(blobs, { name: 'quay.io/example/component', format: 'docker', layers: await own('digest') }),
    list: await makeIndex(blobs, {
      ...oci,
      instances: [
        await makeImage(blobs, { ...oci, layers: await own('list') }),
        await makeImage(blobs, { ...oci, architecture: 'arm64', layers: await own('foreign') }),
      ],
    }),
    registry: await makeRegistryImage(blobs),
  };
}

/** The content of a layer by which an image is told from others. */
export function named(name: string): readonly LayerEntry[] {
  return [
    { kind: 'directory', path: 'etc' },
    { kind: 'file', path: 'etc/name', content: name },
  ];
}

/** A disk with a partition on which a bundle lies. */
export interface DataDisk extends TestDisk {
  readonly label: string;
  /** Changes what lies on the partition, as somebody would on another machine. */
  change(act: (mountPoint: string) => Promise<void>): Promise<void>;
  /** Brings the bundle back as it was. */
  restore(): Promise<void>;
}

let disks = 0;

export async function makeDataDisk({ work, bundle }: Pick<MountFixture, 'work' | 'bundle'>, partitionMiB = 320): Promise<DataDisk> {
  const label = `data-${process.pid}-${++disks}`;
  const disk = await makeDisk({ directory: work, label, partitionMiB, sizeMiB: partitionMiB + 100 });
  const change: DataDisk['change'] = async (act) => await fillDisk(disk, work, act);
  const restore = async (): Promise<void> => {
    await change(async (top) => {
      for (const name of await readdir(top)) await rm(join(top, name), { recursive: true });
      await cp(bundle, top, { recursive: true });
    });
  };
  await restore();
  return { ...disk, label, change, restore };
}

export interface AgentEnd {
  /** 128 + signal number where a signal ended it. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunEnd extends AgentEnd {
  readonly state: RunState;
}

/** A node in a sandbox on which the built executable runs, with policy closed, so that exit codes are plain. */
export interface MountNode extends NodeSandbox {
  agent(args: readonly string[], options?: SandboxExecOptions): Promise<AgentEnd>;
  /** `run` with these arguments, and the state that it answers with. */
  run(args: readonly string[], options?: SandboxExecOptions): Promise<RunEnd>;
  /** Starts a run and goes on. */
  startRun(args: readonly string[]): { readonly ended: Promise<AgentEnd>; readonly stop: () => Promise<void> };
  status(): Promise<StatusReport['status']>;
  podman(...args: readonly string[]): Promise<AgentEnd>;
  /** References that `podman images` lists as read-only, without repetition. */
  readOnlyImages(env?: Readonly<Record<string, string>>): Promise<readonly string[]>;
  /** What is mounted in the node below the agent's places: `/run/prestage-agent/…`, `/var/lib/prestage-agent/…`; without those of the registry's container. */
  ourMounts(): Promise<readonly string[]>;
}

export async function openMountNode(fixture: Pick<MountFixture, 'executable'>, options: SandboxOptions = {}): Promise<MountNode> {
  const node = await openSandbox(options);
  const env = { PRESTAGE_POLICY: 'closed' };
  const agent: MountNode['agent'] = async (args, more = {}) =>
    await node.exec(fixture.executable, args, { ...more, env: { ...env, ...more.env } });
  return {
    ...node,
    agent,
    run: async (args, more) => {
      const ended = await agent(['run', ...args, '--output', 'json'], more);
      const state = parseRunState(ended.stdout);
      if (state === undefined) throw new Error(`run ended with ${ended.exitCode} and no state: ${ended.stdout}${ended.stderr}`);
      return { ...ended, state };
    },
    startRun: (args) => {
      // The process that this gives is only nsenter(1): the run's own id is that in the node.
      const child = node.start('sh', ['-c', 'echo $$ > /run/run.pid; exec "$@"', 'sh', fixture.executable, 'run', ...args], env);
      if (child.stdout === null || child.stderr === null) throw new Error('the run has no output');
      const [stdout, stderr] = [text(child.stdout), text(child.stderr)];
      const ended = once(child, 'exit').then(
        async ([code, signal]): Promise<AgentEnd> => ({
          exitCode: shellExitCode(code, signal),
          stdout: await stdout,
          stderr: await stderr,
        }),
      );
      return { ended, stop: async () => void (await node.output('sh', ['-c', 'kill -TERM "$(cat /run/run.pid)"'])) };
    },
    status: async () => {
      const report: StatusReport = JSON.parse((await agent(['status', '--output', 'json'])).stdout);
      return report.status;
    },
    podman: async (...args) => await node.exec('podman', args),
    readOnlyImages: async (more) => {
      const listed: { readonly Names?: readonly string[]; readonly ReadOnly?: boolean }[] = JSON.parse(
        await node.output('podman', ['images', '--all', '--format', 'json'], more === undefined ? {} : { env: more }),
      );
      return [...new Set(listed.flatMap((image) => (image.ReadOnly === true ? (image.Names ?? []) : [])))].toSorted();
    },
    ourMounts: async () => {
      const table = await readFile(`/proc/${node.pid}/mounts`, 'utf8');
      const points = table.split('\n').map((line) => line.split(' ')[1] ?? '');
      const ours = points.filter((point) => /^\/(?:run|var\/lib)\/prestage-agent\//.test(point));
      return ours.filter((point) => !point.startsWith('/run/prestage-agent/registry/')).toSorted();
    },
  };
}

/** Everything on this machine that holds a partition: mounts of any process, loop devices, device-mapper, and whether it opens exclusively. */
export async function holdersOf({ device, partition }: Pick<TestDisk, 'device' | 'partition'>): Promise<readonly string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const tables = await Promise.all(pids.map(async (pid) => [pid, await readFile(`/proc/${pid}/mounts`, 'utf8').catch(() => '')] as const));
  const mounts = tables.flatMap(([pid, table]) =>
    table
      .split('\n')
      .filter((line) => line.startsWith(`${partition} `))
      .map((line) => `mount of process ${pid}: ${line}`),
  );
  // By its number: the path of the backing file is that of a mount namespace.
  const number = (await readFile(`/sys/class/block/${basename(partition)}/dev`, 'utf8')).trim();
  const loops = await output(execOnLinux, 'losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-MAJ:MIN,BACK-FILE']);
  const onIt = loops.split('\n').filter((line) => line.split(/ +/)[1] === number);
  const below = await readdir(`/sys/block/${basename(device)}/${basename(partition)}/holders`);
  const busy = await open(partition, constants.O_RDONLY | constants.O_EXCL).then(
    async (file) => await file.close(),
    (error: NodeJS.ErrnoException) => `it does not open exclusively: ${error.code}`,
  );
  return [...mounts, ...onIt, ...below, ...(busy === undefined ? [] : [busy])];
}
