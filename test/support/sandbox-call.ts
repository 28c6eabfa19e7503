import { join } from 'node:path';
import type { ErrorRecord } from '../../agent/model/errors.ts';
import { TOP } from './cache.ts';
import { COMPILE_CACHE } from './compile-cache.ts';
import type { NodeSandbox } from './sandbox.ts';

/** How a function of the agent ended inside a sandbox: JSON of what it gave, or the error. */
export type Called = { readonly value: unknown } | { readonly error: ErrorRecord };

export interface CallRequest {
  /** From the top of the checkout: `agent/registry/serve/service.ts`. */
  readonly module: string;
  /** An exported function whose first argument is a Host. */
  readonly name: string;
  /** The second argument; an object also gets `act`, which runs plainly, and `signal`, which never fires. */
  readonly request?: unknown;
}

/** Calls a function of the agent in a process of its own inside a sandbox, with the sandbox's `/` as its host. */
export async function callInside(node: NodeSandbox, request: CallRequest): Promise<Called> {
  const main = join(import.meta.dirname, 'sandbox-call-main.ts');
  const input = JSON.stringify({ ...request, module: join(TOP, request.module) });
  const text = await node.output(process.execPath, [main], { input, env: COMPILE_CACHE });
  const called: Called = JSON.parse(text);
  return called;
}
