import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { nodeRoot } from '../boot/root.ts';
import { waitFor } from './agent.ts';
import type { NodeSandbox } from './sandbox.ts';

/** An engine that goes on while the store changes below it, as CRI-O does: the API server of podman, which is linked with the same library. */
export interface PodmanService {
  /** References of all images that it lists. */
  images(): Promise<readonly string[]>;
  /** Loads an archive; undefined where it did, else what it said. */
  load(archive: string): Promise<string | undefined>;
}

const SOCKET = '/run/podman-service.sock';

/** The /usr of a node with a podman of version 5, which keeps records of containers in two files. */
export async function nodeUsr(): Promise<string> {
  return join(await nodeRoot(), 'usr');
}

/** Starts it; it ends with the sandbox. */
export async function startPodmanService(node: NodeSandbox): Promise<PodmanService> {
  const socketPath = node.path(SOCKET);
  const child = node.start('podman', ['system', 'service', '--time=0', `unix://${SOCKET}`]);
  child.stdout?.resume();
  const said = child.stderr === null ? Promise.resolve('') : text(child.stderr);
  await waitFor('the socket of podman', async () => {
    if (child.exitCode !== null) throw new Error(`podman system service ended with ${child.exitCode}: ${await said}`);
    return existsSync(socketPath) ? true : undefined;
  });
  const ask = async (method: string, path: string, body?: Buffer): Promise<{ readonly status: number; readonly body: string }> =>
    await new Promise((resolve, reject) => {
      const asked = request({ socketPath, method, path: `/v4.0.0/libpod/images/${path}` }, (answer) => {
        text(answer).then((answered) => resolve({ status: answer.statusCode ?? 0, body: answered }), reject);
      });
      asked.on('error', reject);
      asked.end(body);
    });
  return {
    images: async () => {
      const { status, body } = await ask('GET', 'json');
      if (status !== 200) throw new Error(`podman answers ${status}: ${body}`);
      const listed: { Names?: string[] }[] = JSON.parse(body);
      return listed.flatMap((image) => image.Names ?? []).toSorted();
    },
    load: async (archive) => {
      const { status, body } = await ask('POST', 'load', await readFile(archive));
      return status === 200 ? undefined : `${status}: ${body}`;
    },
  };
}
