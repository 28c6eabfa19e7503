import { availableParallelism } from 'node:os';
import { systemClock } from './clock.ts';
import { execOnLinux } from './exec.ts';
import type { Host } from './host.ts';
import type { Log } from './log.ts';

/** GOARCH names for Node's names of architectures, as far as they differ. */
const GOARCH: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };

/** This machine, with `root` standing for `/`. */
export function linuxHost(options: { readonly root: string; readonly log: Log; readonly env: Host['env'] }): Host {
  return {
    ...options,
    exec: execOnLinux,
    clock: systemClock,
    architecture: GOARCH[process.arch] ?? process.arch,
    cores: availableParallelism(),
  };
}
