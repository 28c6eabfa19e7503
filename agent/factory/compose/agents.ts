import { type FileHandle, open, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { isSea } from 'node:sea';
import { PrestageError } from '../../model/errors.ts';
import { reasonOf } from '../../model/system-error.ts';
import type { AgentFile } from './plan.ts';

/** Processor of an ELF file (e_machine) as GOARCH and as in the names of our executables. Source: elf(5); elf.h, EM_X86_64, EM_AARCH64. */
const MACHINES = new Map([
  [62, { architecture: 'amd64', suffix: 'x64' }],
  [183, { architecture: 'arm64', suffix: 'arm64' }],
]);
const ELF_MAGIC = 0x7f454c46;
const HEADER_BYTES = 20;
const MACHINE_OFFSET = 18;

/**
 * Finds the executables and their places in a bundle: the one for the bundle's own architecture at the top, where the launcher looks first,
 * the others below `bin`. Without paths it is the running executable; none if the program runs from its sources.
 * @throws PrestageError ERR_BUILD_AGENT, also if two are for one architecture
 */
export async function findAgents(given: readonly string[], architecture: string): Promise<readonly AgentFile[]> {
  const paths = given.length > 0 ? given.map((path) => resolve(path)) : isSea() ? [process.execPath] : [];
  const agents = await Promise.all(paths.map(async (from) => await describeAgent(from, architecture)));
  const twice = agents.find((agent, index) => agents.findIndex((other) => other.path === agent.path) !== index);
  if (twice !== undefined) {
    throw new PrestageError(
      'ERR_BUILD_AGENT',
      `${twice.from} is the second executable for ${twice.path}`,
      'Give one --agent for each architecture',
    );
  }
  return agents;
}

async function describeAgent(from: string, architecture: string): Promise<AgentFile> {
  const found = await stat(from).catch((cause: NodeJS.ErrnoException) => {
    throw unusable(`${from} cannot be read: ${reasonOf(cause)}`, cause);
  });
  const machine = found.isFile() ? await machineOf(from) : undefined;
  if (machine === undefined)
    throw unusable(`${from} is not a Linux executable for ${[...MACHINES.values()].map((one) => one.suffix).join(' or ')}`);
  const path = machine.architecture === architecture ? 'prestage-agent' : `bin/prestage-agent-linux-${machine.suffix}`;
  return { from, path, sizeBytes: found.size, modifiedMs: found.mtimeMs };
}

async function machineOf(path: string) {
  await using file: FileHandle = await open(path);
  const header = Buffer.alloc(HEADER_BYTES);
  const { bytesRead } = await file.read(header, 0, HEADER_BYTES, 0);
  if (bytesRead < HEADER_BYTES || header.readUInt32BE(0) !== ELF_MAGIC) return undefined;
  return MACHINES.get(header.readUInt16LE(MACHINE_OFFSET));
}

function unusable(message: string, cause?: unknown): PrestageError {
  return new PrestageError(
    'ERR_BUILD_AGENT',
    message,
    'Give --agent a released executable: prestage-agent-linux-x64 or prestage-agent-linux-arm64',
    { cause },
  );
}
