import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { type ExecResult, execOnLinux, output } from '../../agent/host/exec.ts';
import { parseMountInfo } from '../../agent/host/mount-table.ts';

export interface SandboxOptions {
  /** Files to put before anything runs for the first time, by absolute path; modes are 0644 where none is given. */
  readonly files?: Readonly<Record<string, string | { readonly content: string; readonly mode: number }>>;
  /** A network namespace by its name in /run/netns, for several nodes; one of its own with nothing but loopback where left out. */
  readonly network?: string;
  /**
   * A directory that keeps what the node writes to /etc, /var/lib and /var/tmp when the sandbox goes: the next sandbox of the same directory is the
   * same node after a reboot, with another boot id. It is removed by whoever made it.
   */
  readonly disk?: string;
  /** A directory that is its /usr: the programs of another distribution. This machine's where left out. */
  readonly usr?: string;
}

export interface SandboxExecOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** The command is killed after so long (SIGKILL); 60 s where left out. */
  readonly timeoutMs?: number;
}

/**
 * What looks like a node to the programs in it, offline: a mount, network and process namespace of their own over this machine's /usr, or another one. /etc is
 * an overlay with a plain /etc/containers, /var/lib another, /run and /dev/shm are empty, and /var/lib/containers, /var/lib/prestage-agent and /var/tmp are private.
 * /tmp and the rest are this machine's. There is no systemd in it. The lease kills every process in it and unmounts everything.
 */
export interface NodeSandbox extends AsyncDisposable {
  /** Process id, on this machine, of the first process in it. */
  readonly pid: number;
  exec(file: string, args: readonly string[], options?: SandboxExecOptions): Promise<ExecResult>;
  /** Runs a command that must succeed and gives what it printed. */
  output(file: string, args: readonly string[], options?: SandboxExecOptions): Promise<string>;
  /** Starts a command that goes on; it ends with the sandbox at the latest. The process that this gives is only its nsenter(1). */
  start(file: string, args: readonly string[], env?: Readonly<Record<string, string>>): ChildProcess;
  /** Where this machine sees a file of the sandbox. Absolute symbolic links on the way lead to this machine's files. */
  path(absolute: string): string;
  /** Everything below /etc by path: kind, mode, owner; of files time and sha256, of links their target. Times of directories change with their entries and are left out. */
  etcTree(): Promise<Readonly<Record<string, string>>>;
  /** The tree of /etc in one digest. */
  etcHash(): Promise<string>;
}

const LIMIT_MS = 60_000;

/**
 * The first process. It reports its id on this machine (/proc is still this machine's then), makes the mounts, and afterwards reaps what the
 * others leave, which bash does, until its standard input ends: with the test's process, whatever became of that.
 * The unified cgroup hierarchy beside the old ones goes because crun refuses it (cgroups(7), "hybrid").
 */
const FIRST = `
read -r pid _ < /proc/self/stat
mount -t proc proc /proc
cat /proc/sys/kernel/random/uuid > "$1/boot_id"
mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id
for place in /etc /var/lib; do
  mkdir -p "$1/upper$place" "$1/overlay$place"
  mount -t overlay overlay -o "lowerdir=$place,upperdir=$1/upper$place,workdir=$1/overlay$place" "$place"
done
for place in /var/lib/containers /var/lib/prestage-agent /var/tmp; do
  mkdir -p "$1/own$place" "$place"
  mount --bind "$1/own$place" "$place"
done
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -m 1777 /run/lock
if [ -d /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified; fi
ip link set lo up
if [ -n "$2" ]; then mount --bind "$2" /usr; fi
if [ ! -e "$1/made" ]; then rm -rf /etc/containers /etc/cni; fi
echo "ready $pid"
while read -r _; do :; done
`;

/** What a plain node has, and what makes containers run without CAP_SYS_RESOURCE and a cgroup of their own. */
const PLAIN_FILES: NonNullable<SandboxOptions['files']> = {
  '/etc/containers/policy.json': '{ "default": [{ "type": "insecureAcceptAnything" }] }\n',
  '/etc/containers/registries.conf':
    'unqualified-search-registries = ["registry.access.redhat.com", "docker.io"]\nshort-name-mode = "permissive"\n',
  '/etc/containers/storage.conf':
    '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n\n[storage.options]\nadditionalimagestores = [\n]\n',
  '/etc/containers/containers.conf':
    '[containers]\ncgroups = "disabled"\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n',
};

/** Why sandboxes cannot be opened here, in words; undefined where they can. */
export function sandboxUnavailable(): string | undefined {
  return process.getuid?.() === 0 ? undefined : 'namespaces with mounts of their own take root';
}

export async function openSandbox(options: SandboxOptions = {}): Promise<NodeSandbox> {
  const work = options.disk ?? (await mkdtemp(join(tmpdir(), 'node-')));
  const network = options.network === undefined ? [] : ['nsenter', `--net=/run/netns/${options.network}`];
  const alone = ['unshare', '--mount', '--pid', '--ipc', '--fork', '--kill-child', '--propagation=private'];
  const [file = '', ...args] = [...network, ...alone, ...(options.network === undefined ? ['--net'] : [])];
  const child = spawn(file, [...args, 'bash', '-e', '-c', FIRST, 'bash', work, options.usr ?? ''], { stdio: ['pipe', 'pipe', 'pipe'] });
  const close = async (pid?: number): Promise<void> => {
    if (pid !== undefined) await empty(pid);
    await end(child);
    if (options.disk === undefined) await rm(work, { recursive: true, force: true });
  };
  const ready = await untilReady(child).catch(async (error: unknown) => {
    await close();
    throw error;
  });
  const node = sandboxOf(ready, async () => await close(ready));
  try {
    const made = join(work, 'made');
    if (!existsSync(made)) {
      for (const [path, put] of Object.entries({ ...PLAIN_FILES, ...options.files })) await putFile(node.path(path), put);
      await writeFile(made, '');
    }
  } catch (error) {
    await close(ready);
    throw error;
  }
  return node;
}

function sandboxOf(pid: number, close: () => Promise<void>): NodeSandbox {
  const inside = ['--target', String(pid), '--mount', '--net', '--pid', '--ipc', '--'];
  // A signal to nsenter does not reach the command: its time is limited from within.
  const limited = (file: string, args: readonly string[], options: SandboxExecOptions): readonly string[] => [
    ...inside,
    ...['timeout', '--signal=KILL', String((options.timeoutMs ?? LIMIT_MS) / 1000), file],
    ...args,
  ];
  const surroundings = (options: SandboxExecOptions) => ({
    env: { HOME: '/root', ...options.env },
    ...(options.input !== undefined && { input: options.input }),
  });
  const path = (absolute: string): string => join(`/proc/${pid}/root`, absolute);
  return {
    pid,
    exec: async (file, args, options = {}) => await execOnLinux('nsenter', limited(file, args, options), surroundings(options)),
    output: async (file, args, options = {}) => await output(execOnLinux, 'nsenter', limited(file, args, options), surroundings(options)),
    start: (file, args, env = {}) => spawn('nsenter', [...inside, file, ...args], { env: { ...process.env, HOME: '/root', ...env } }),
    path,
    etcTree: async () => await treeOf(path('/etc')),
    etcHash: async () =>
      createHash('sha256')
        .update(JSON.stringify(await treeOf(path('/etc'))))
        .digest('hex'),
    [Symbol.asyncDispose]: close,
  };
}

/** The first process's id, once everything is mounted. */
async function untilReady(child: ChildProcess): Promise<number> {
  let messages = '';
  child.stderr?.on('data', (chunk: Buffer) => (messages += chunk.toString()));
  if (child.stdout === null) throw new Error('the sandbox has no standard output');
  for await (const line of createInterface({ input: child.stdout })) {
    const pid = /^ready (\d+)$/.exec(line)?.[1];
    if (pid !== undefined) return Number(pid);
  }
  throw new Error(`the sandbox did not come up: ${messages}`);
}

/** Ends all but the first process, and unmounts what lies on loop devices: these are free when this is through, not some time later. */
async function empty(pid: number): Promise<void> {
  const inside = ['--target', String(pid), '--mount', '--pid', '--'];
  await execOnLinux('nsenter', [...inside, 'bash', '-c', 'kill -KILL -1']);
  const table = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '');
  const loops = parseMountInfo(table).filter(({ source }) => source.startsWith('/dev/loop'));
  for (const { target } of loops.toReversed()) await execOnLinux('nsenter', [...inside, 'umount', target]);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exited = once(child, 'exit');
  child.stdin?.end();
  await exited;
}

async function putFile(path: string, put: string | { readonly content: string; readonly mode: number }): Promise<void> {
  const { content, mode } = typeof put === 'string' ? { content: put, mode: 0o644 } : put;
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
  await chmod(path, mode);
}

async function treeOf(top: string): Promise<Readonly<Record<string, string>>> {
  const entries = await readdir(top, { recursive: true, withFileTypes: true });
  const paths = entries.map((entry) => join(entry.parentPath, entry.name)).toSorted();
  const described = await Promise.all(paths.map(async (path) => [path.slice(top.length), await describeEntry(path)] as const));
  return Object.fromEntries(described);
}

async function describeEntry(path: string): Promise<string> {
  const found = await lstat(path, { bigint: true });
  const owner = `${(found.mode & 0o7777n).toString(8)} ${found.uid}:${found.gid}`;
  if (found.isDirectory()) return `directory ${owner}`;
  if (found.isSymbolicLink()) return `link ${await readlink(path)}`;
  if (!found.isFile()) return `special ${owner}`;
  const sha256 = createHash('sha256').update(await readFile(path));
  return `file ${owner} ${found.mtimeNs} ${sha256.digest('hex')}`;
}
