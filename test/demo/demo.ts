import { createHash } from 'node:crypto';
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { formatBytes } from '../../agent/model/bytes.ts';
import { TOP } from '../support/cache.ts';
import { disksUnavailable, fillDisk, makeDisk, mountPointsOf, type TestDisk } from '../support/disk.ts';
import { type ImageSet, smallImageSet } from '../support/image-set.ts';
import { hasHybridCgroups, inContainer } from '../support/storage.ts';
import { commandOf, filesOf } from './ignition-files.ts';
import { endWellOnSignals, performWell, show, tell } from './narrate.ts';
import { type DemoNode, startNode } from './node.ts';

/**
 * The way of the images from the factory to a running container, on this machine and without a network: `npm run demo`.
 * With `--directory`, or where disks cannot be made, a directory stands for the partition and a private storage for the node's.
 */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: { directory: { type: 'boolean', default: false } } });
  const work = await mkdtemp(join(tmpdir(), 'prestage-demo-'));
  const started = performance.now();
  try {
    const executable = await build();
    const set = await makeImages();
    const reason = values.directory ? '--directory was given' : await nodeUnavailable();
    if (reason === undefined) await demonstrateNode(work, executable, set);
    else await demonstrateDirectory(work, executable, set, reason);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  tell(`Done in ${((performance.now() - started) / 1000).toFixed(0)} s; disk, mounts and storage of the demo are gone.`);
}

interface Executable {
  readonly path: string;
  readonly sha256: string;
}

async function build(): Promise<Executable> {
  tell('Build the executable, unless it is as new as its sources.');
  await performWell([process.execPath, join(TOP, 'build.mjs'), '--if-stale'], 'npm run build');
  const path = join(TOP, 'dist/prestage-agent-linux-x64');
  const bytes = await readFile(path);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  show(`dist/prestage-agent-linux-x64: ${formatBytes(bytes.length)}, sha256 ${sha256}`);
  return { path, sha256 };
}

async function makeImages(): Promise<ImageSet> {
  tell("Factory: make images of this machine's own files and write them as the archives of a discovery stage.");
  const set = await smallImageSet();
  show(`${set.discovery.length} images over one base layer, with whiteouts, hard links, extended attributes and two image indexes:`);
  for (const image of set.discovery) show(`${image.kind === 'index' ? 'amd64+arm64' : '      amd64'} ${image.reference}`);
  return set;
}

async function demonstrateNode(work: string, executable: Executable, set: ImageSet): Promise<void> {
  const label = `prestage-demo-${process.pid}`;
  tell(`Factory: write archives and executable to the partition "${label}" (GPT, XFS, at the end of a disk image).`);
  await using disk = await makeDisk({ directory: work, label });
  await fillDisk(disk, work, (mountPoint) => writeBundle(mountPoint, executable, set));
  show(await output(execOnLinux, 'blkid', ['-p', '-s', 'PART_ENTRY_NAME', '-s', 'TYPE', disk.partition]));

  tell('Ignition author: render the override that pins the executable.');
  const ignition = [executable.path, 'ignition', 'discovery', '--agent-sha256', executable.sha256, '--label', label];
  show(`$ ${ignition.join(' ').replace(executable.path, 'prestage-agent')}`);
  const config = await output(execOnLinux, executable.path, ignition.slice(1));
  for (const file of filesOf(config)) show(`${file.mode.toString(8).padStart(4, '0')} ${file.path} (${file.text.length} bytes)`);
  const command = commandOf(config);

  tell('Node: boot, so to speak: a root of its own that forgets, an empty storage, no network; ignition writes its files.');
  await using node = await startNode(work);
  for (const file of filesOf(config)) {
    const write = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"';
    const [program = '', ...args] = node.inside(['sh', '-c', write, 'write', file.path, file.mode.toString(8)]);
    await output(execOnLinux, program, args, { input: file.text });
  }
  await performWell(node.inside(['ip', '-brief', 'link']), 'ip -brief link');

  tell('Node: what systemd starts. The launcher checks the executable, copies it and gives the partition back; the agent loads.');
  const seconds = await performWell(node.inside(command), command.join(' '));
  show(`(${seconds.toFixed(1)} s)`);
  await checkReleased(disk, node);

  tell('Field engineer: what happened?');
  await performWell(node.inside(['/usr/local/bin/prestage-agent', 'status']), 'prestage-agent status');

  tell('Node: an image vanishes, and the machine boots again: only that one is loaded.');
  await performWell(node.inside(['podman', 'rmi', set.images.release.reference]), `podman rmi ${set.images.release.reference}`);
  await performWell(node.inside(command), command.join(' '));

  tell('Node: a loaded image runs, without a network.');
  for (const image of [set.images.release, set.images.otherArchitecture]) {
    const argv = inContainer([], image.reference, ['sh', '-c', 'echo "this is image $(cat /etc/prestage-image), as $(id -un)"']);
    await performWell(node.inside([argv[0], ...argv[1]]), `podman run --rm ${image.reference} …`);
  }
}

async function demonstrateDirectory(work: string, executable: Executable, set: ImageSet, reason: string): Promise<void> {
  tell(`No partition here (${reason}): a directory stands for it, and a private storage for the node's.`);
  const bundle = join(work, 'bundle');
  await mkdir(bundle);
  await writeBundle(bundle, executable, set);
  if (await hasOneUserOnly()) {
    show('This user has no subordinate ids (subuid(5)): the image with files of another owner is left out.');
    const images = set.discovery.filter((image) => image !== set.images.links);
    await writeFile(join(bundle, 'ai-images.txt'), images.map((image) => `${image.reference}\n`).join(''));
  }
  const root = ['--root', join(work, 'root')];
  const roots = ['--graphroot', join(work, 'graphroot'), '--runroot', join(work, 'runroot')];
  const wrap = process.getuid?.() === 0 ? [] : ['podman', 'unshare'];
  const run = [...wrap, join(bundle, 'prestage-agent'), 'run', '--stage', 'discovery', '--bundle', bundle, ...root, ...roots];
  try {
    tell('The agent loads.');
    const seconds = await performWell(run);
    show(`(${seconds.toFixed(1)} s)`);
    tell('Field engineer: what happened?');
    await performWell([...wrap, executable.path, 'status', ...root]);
    tell('A second run has nothing to do.');
    await performWell(run);
    tell('A loaded image runs.');
    await runFromPrivateStorage(work, set.images.release.reference, wrap);
  } finally {
    // What a rootless storage holds belongs to users that only exist in its namespace, and podman keeps it mounted there.
    const [program, ...args] = [...wrap, 'umount', '-l', join(work, 'graphroot/overlay')];
    await execOnLinux(program, args);
    if (wrap.length > 0) await execOnLinux('podman', ['unshare', 'rm', '-rf', join(work, 'graphroot')]);
  }
}

async function runFromPrivateStorage(work: string, reference: string, wrap: readonly string[]): Promise<void> {
  const podman = ['--root', join(work, 'graphroot'), '--runroot', join(work, 'runroot'), '--storage-driver', 'overlay'];
  const command = ['cat', '/etc/prestage-image'];
  if (wrap.length > 0 && hasHybridCgroups()) {
    show('On hybrid cgroups, crun starts no containers of users: the image is mounted and entered instead.');
    const enter = 'top=$(podman "$@" image mount "$0") && chroot "$top" cat /etc/prestage-image';
    await performWell([...wrap, 'sh', '-c', enter, reference, ...podman], `podman image mount ${reference}; chroot … ${command.join(' ')}`);
    return;
  }
  const [program, args] = inContainer(podman, reference, command);
  await performWell([program, ...args], `podman run --rm ${reference} ${command.join(' ')}`);
}

async function writeBundle(directory: string, executable: Executable, set: ImageSet): Promise<void> {
  await cp(set.archives, directory, { recursive: true });
  await cp(executable.path, join(directory, 'prestage-agent'));
  await chmod(join(directory, 'prestage-agent'), 0o755);
}

/** Whether the user is not root and owns no other ids, so that the owners in images cannot be told apart. */
async function hasOneUserOnly(): Promise<boolean> {
  if (process.getuid?.() === 0) return false;
  const { stdout } = await execOnLinux('podman', ['unshare', 'cat', '/proc/self/uid_map']);
  return stdout.trim().split('\n').length < 2;
}

/** The installer needs the disk: nothing may hold it once the agent is through. */
async function checkReleased(disk: TestDisk, node: DemoNode): Promise<void> {
  const [program = '', ...args] = node.inside(['cat', '/proc/self/mounts']);
  const mounts = await output(execOnLinux, program, args);
  const held = mounts.includes(`${disk.partition} `) || (await mountPointsOf(disk.partition)).length > 0;
  if (held) throw new Error(`${disk.partition} is still mounted`);
  show(`${disk.partition} is not mounted any more: the disk is free for the installer.`);
}

/** Why a disk and a node cannot be made here, in words; undefined where they can. */
async function nodeUnavailable(): Promise<string | undefined> {
  const reason = await disksUnavailable();
  if (reason !== undefined) return reason;
  const namespaces = await execOnLinux('unshare', ['-m', '-n', 'true']);
  return namespaces.exitCode === 0 ? undefined : `no namespaces: ${namespaces.stderr.trim()}`;
}

endWellOnSignals();
try {
  await main();
} catch (error) {
  process.stderr.write(`\ndemo: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
