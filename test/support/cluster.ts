import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execOnLinux, output } from '../../agent/host/exec.ts';

/** A node of a cluster: a network namespace with one interface. */
export interface ClusterNode {
  /** Name in /run/netns. */
  readonly network: string;
  readonly address: string;
  /** Takes the node's cable out, or puts it back: packets vanish, nobody is told. */
  cut(): Promise<void>;
  mend(): Promise<void>;
  /** Limits what the node sends; tc-tbf(8). */
  limit(rate: string): Promise<void>;
  unlimit(): Promise<void>;
}

/** Nodes on one bridge, with no way to anything else. The lease takes the namespaces away, and with them all interfaces. */
export interface Cluster extends AsyncDisposable {
  readonly nodes: readonly ClusterNode[];
}

let opened = 0;

/** Opens so many nodes, 192.0.2.1 and on; takes root. */
export async function openCluster(count: number): Promise<Cluster> {
  const name = `prestage-${process.pid}-${++opened}`;
  const hub = `${name}-hub`;
  const networks = Array.from({ length: count }, (_, index) => `${name}-${index + 1}`);
  const ip = async (...args: readonly string[]): Promise<void> => void (await output(execOnLinux, 'ip', args));
  const close = async (): Promise<void> => {
    for (const network of [...networks, hub]) await execOnLinux('ip', ['netns', 'delete', network]);
  };
  try {
    for (const network of [hub, ...networks]) await ip('netns', 'add', network);
    await ip('-n', hub, 'link', 'add', 'bridge', 'up', 'type', 'bridge');
    for (const [index, network] of networks.entries()) {
      await ip('-n', hub, 'link', 'add', `port${index}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', network);
      await ip('-n', hub, 'link', 'set', `port${index}`, 'master', 'bridge', 'up');
      await ip('-n', network, 'link', 'set', 'lo', 'up');
      await ip('-n', network, 'address', 'add', `192.0.2.${index + 1}/24`, 'dev', 'eth0');
      await ip('-n', network, 'link', 'set', 'eth0', 'up');
    }
  } catch (error) {
    await close();
    throw error;
  }
  const nodes = networks.map((network, index): ClusterNode => {
    const tc = async (...args: readonly string[]): Promise<void> =>
      void (await output(execOnLinux, 'tc', ['-n', network, 'qdisc', ...args]));
    return {
      network,
      address: `192.0.2.${index + 1}`,
      cut: async () => await ip('-n', hub, 'link', 'set', `port${index}`, 'down'),
      mend: async () => await ip('-n', hub, 'link', 'set', `port${index}`, 'up'),
      limit: async (rate) => await tc('add', 'dev', 'eth0', 'root', 'tbf', 'rate', rate, 'burst', '128kbit', 'latency', '400ms'),
      unlimit: async () => await tc('delete', 'dev', 'eth0', 'root'),
    };
  });
  return { nodes, [Symbol.asyncDispose]: close };
}

export interface ServerOptions {
  readonly node: ClusterNode;
  readonly port: number;
  /** Registry tree, the directory that holds `docker/`. */
  readonly tree: string;
  readonly certificate: string;
  readonly key: string;
}

/** distribution on a node, with TLS, read-only. The lease ends it. */
export interface ClusterServer extends AsyncDisposable {
  /** Requests that were answered so far, as `GET /v2/… 200`. */
  requests(): readonly string[];
  /** Ends it at once, as a node that goes down. */
  kill(): Promise<void>;
}

export async function startServer({ node, port, tree, certificate, key }: ServerOptions): Promise<ClusterServer> {
  const work = await mkdtemp(join(tmpdir(), 'cluster-server-'));
  const config = {
    version: 0.1,
    log: { level: 'info', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: tree }, maintenance: { readonly: { enabled: true } } },
    http: { addr: `${node.address}:${port}`, secret: 'for tests', tls: { certificate, key } },
  };
  await writeFile(join(work, 'config.yml'), JSON.stringify(config));
  const child = spawn('ip', ['netns', 'exec', node.network, 'docker-registry', 'serve', join(work, 'config.yml')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    await endProcess(child, signal);
    await rm(work, { recursive: true, force: true });
  };
  for (let waited = 0; !log.includes('listening on'); waited += 50) {
    if (child.exitCode !== null || waited > 10_000) {
      await end('SIGKILL');
      throw new Error(`docker-registry did not start: ${log}`);
    }
    await sleep(50);
  }
  return {
    requests: () => log.split('\n').flatMap(requestOf),
    kill: async () => await end('SIGKILL'),
    [Symbol.asyncDispose]: async () => await end('SIGTERM'),
  };
}

/** Of a line of distribution's log that tells of an answer: `… msg="response completed" … http.request.method=GET … http.request.uri="/v2/…" … http.response.status=200`. */
export function requestOf(line: string): readonly string[] {
  const field = (name: string): string => new RegExp(`${name.replaceAll('.', '\\.')}="?([^" ]+)`).exec(line)?.[1] ?? '';
  return /response completed/.test(line)
    ? [`${field('http.request.method')} ${field('http.request.uri')} ${field('http.response.status')}`]
    : [];
}

async function endProcess(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
}
