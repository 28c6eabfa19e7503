import { once } from 'node:events';
import type { NodeSandbox } from './sandbox.ts';

/** The user without rights. */
export const NOBODY = 65_534;

/** Ends the registry of a node without systemd for good, and leaves its record and the rest of its files, as its end would. */
export const END_REGISTRY = `
cd /run/prestage-agent/registry
storage="--root $PWD/storage --runroot $PWD/run --tmpdir $PWD/tmp --storage-driver overlay"
podman $storage rm --force prestage-registry`;

/** Answers what a registry answers, says `{}` to whatever it is asked, and tells its process id when it listens. */
const PROGRAM = `
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answer(BaseHTTPRequestHandler):
  def do_GET(self):
    self.send_response(200)
    self.send_header('Docker-Distribution-Api-Version', 'registry/2.0')
    self.end_headers()
    self.wfile.write(b'{}')
  def log_message(self, *_):
    pass
server = HTTPServer((sys.argv[2], int(sys.argv[1])), Answer)
print(os.getpid(), flush=True)
server.serve_forever()
`;

export interface ForeignRegistry extends AsyncDisposable {
  /** In the node. */
  readonly pid: number;
}

/** Starts a program on a node that answers as a registry does, as some user. The lease ends it. */
export async function startForeignRegistry(
  node: NodeSandbox,
  { port, uid, address = '127.0.0.1' }: { readonly port: number; readonly uid: number; readonly address?: string },
): Promise<ForeignRegistry> {
  const as = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
  const child = node.start('setpriv', [...as, '/usr/bin/python3', '-c', PROGRAM, String(port), address]);
  if (child.stdout === null) throw new Error('the program has no output');
  const [said] = await once(child.stdout, 'data', { signal: AbortSignal.timeout(20_000) });
  const pid = Number.parseInt(String(said), 10);
  if (Number.isNaN(pid)) throw new Error(`the program does not listen: ${said}`);
  return { pid, [Symbol.asyncDispose]: async () => void (await node.output('kill', ['-KILL', String(pid)])) };
}
