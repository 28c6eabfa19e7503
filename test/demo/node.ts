import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/**
 * What stands for a node: this machine's own files under an overlay that forgets, /run and /tmp of its own, an empty
 * containers-storage, and a network namespace in which there is nothing. Whatever is done in it is gone with the lease.
 */
export interface DemoNode extends AsyncDisposable {
  /** The argv that does something in the node. */
  inside(argv: readonly string[]): readonly string[];
}

/** $1: a directory for the overlay, $2: where the node's containers-storage really lies, because overlay stores cannot lie on an overlay. */
const MAKE_NODE = `set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cd "$1/root"
mount --rbind /proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
rm -rf var/lib/containers
mkdir -p var/lib/containers usr/local/bin etc/containers
mount --bind "$2" var/lib/containers
rm -rf etc/prestage-agent var/lib/prestage-agent usr/local/bin/prestage-agent usr/local/bin/prestage-launcher
printf '[storage]\\ndriver = "overlay"\\ngraphroot = "/var/lib/containers/storage"\\nrunroot = "/run/containers/storage"\\n' >etc/containers/storage.conf
exec chroot . sh -c 'echo ready; read -r _'`;

/** Starts a node; its mounts and its network end with the process that holds them. Needs root. */
export async function startNode(work: string): Promise<DemoNode> {
  const overlay = join(work, 'node');
  const containers = join(work, 'containers');
  await mkdir(overlay);
  await mkdir(containers);
  const holder = spawn('unshare', ['-m', '-n', 'sh', '-c', MAKE_NODE, 'node', overlay, containers], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => {
    holder.once('error', () => resolve());
    holder.once('close', () => resolve());
  });
  const isReady = await firstLine(holder.stdout, ended);
  if (!isReady || holder.pid === undefined) throw new Error('the namespaces of the node could not be made');
  const namespaces = ['nsenter', '-t', String(holder.pid), '-m', '-n', '-r', '-w', '--'];
  return {
    inside: (argv) => [...namespaces, ...argv],
    [Symbol.asyncDispose]: async () => {
      holder.stdin.end();
      await ended;
    },
  };
}

async function firstLine(stream: NodeJS.ReadableStream, ended: Promise<void>): Promise<boolean> {
  const lines = createInterface({ input: stream });
  const line = new Promise<boolean>((resolve) => {
    lines.once('line', () => resolve(true));
  });
  return Promise.race([line, ended.then(() => false)]);
}
