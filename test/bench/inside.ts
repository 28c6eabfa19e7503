import { type NodeSandbox, openSandbox } from '../support/sandbox.ts';
import { type Measurement, measure } from './measure.ts';

/** Turns of each; the best is taken: what the machine does besides can only add to it. */
const ROUNDS = 3;

/** The fastest of some turns, each on a node of its own. */
export async function bestOf(act: (node: NodeSandbox) => Promise<Measurement>): Promise<Measurement> {
  const all: Measurement[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await using node = await openSandbox();
    all.push(await act(node));
  }
  return fastest(all);
}

export function fastest(all: readonly Measurement[]): Measurement {
  const [first] = all.toSorted((a, b) => a.wallSeconds - b.wallSeconds);
  if (first === undefined) throw new Error('nothing was measured');
  return first;
}

/** Measures a command on a node. */
export async function measureInside(node: NodeSandbox, argv: readonly string[]): Promise<Measurement> {
  const enter = ['nsenter', '--target', String(node.pid), '--mount', '--net', '--pid', '--ipc', '--'];
  const found = await measure({ argv: [...enter, ...argv], work: import.meta.dirname });
  if (found.exitCode === 0) return found;
  throw new Error(`${argv.join(' ')} ended with ${found.exitCode}:\n${found.stderr.slice(-2000)}`);
}
