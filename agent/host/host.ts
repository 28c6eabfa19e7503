import { join } from 'node:path';
import type { Clock } from './clock.ts';
import type { Exec } from './exec.ts';
import type { Log } from './log.ts';

/** Everything that capabilities need from the machine. Files are real, below `root`. */
export interface Host {
  /** The directory that stands for `/`; `/` on a node. */
  readonly root: string;
  readonly exec: Exec;
  readonly clock: Clock;
  readonly log: Log;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Processor architecture as GOARCH names it (`amd64`, `arm64`). */
  readonly architecture: string;
  readonly cores: number;
}

/** An absolute path of the node, below the host's root. */
export function hostPath(host: Pick<Host, 'root'>, absolute: string): string {
  return join(host.root, absolute);
}
