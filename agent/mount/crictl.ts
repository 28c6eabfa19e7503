import { crioPid } from '../engine/crio-process.ts';
import { howEnded, quote } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import type { Pod } from '../storage/container-owner.ts';

/** Source: crio.conf(5), `listen`. crictl(1) would try the sockets of other engines before it. */
const ENDPOINT = 'unix:///var/run/crio/crio.sock';
/** For one request. CRI-O waits for each container of a pod until it ends, 10 s before it kills it. */
const REQUEST_SECONDS = 120;

/** `no-crio` if CRI-O is not running; otherwise whether pods can be ended through it, and why not. */
export type Crictl = { readonly kind: 'no-crio' | 'answers' } | { readonly kind: 'silent'; readonly reason: string };

/** Asks CRI-O by crictl(1), which comes with it on a node. */
export async function askCrictl(host: Host): Promise<Crictl> {
  if (crioPid(host) === undefined) return { kind: 'no-crio' };
  const answer = await crictl(host, ['version']);
  return answer === undefined ? { kind: 'answers' } : { kind: 'silent', reason: answer };
}

/** Stops a pod and removes it. @returns why this failed; undefined if the pod is gone */
export async function endPod(host: Host, { id }: Pod): Promise<string | undefined> {
  return await crictl(host, ['rmp', '--force', id]);
}

async function crictl(host: Host, args: readonly string[]): Promise<string | undefined> {
  try {
    const flags = ['--runtime-endpoint', ENDPOINT, '--timeout', `${REQUEST_SECONDS}s`];
    const result = await host.exec('crictl', [...flags, ...args]);
    return result.exitCode === 0 ? undefined : `crictl ${args[0]} ${howEnded(result)}: ${quote(result.stderr)}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
