import { Command, CommanderError } from 'commander';
import { exitCodes } from '../model/errors.ts';
import { versionText } from './version.ts';

/** Where the program writes: data to `out`, messages to `err`. */
export interface Streams {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

/**
 * Runs one command line.
 * @param args the arguments after the program's name
 * @returns the process exit code
 */
export async function runProgram(args: readonly string[], streams: Streams): Promise<number> {
  const program = new Command('prestage-agent')
    .description('Makes prestaged container images available on an OpenShift node')
    .version(versionText())
    .exitOverride()
    .configureOutput({ writeOut: streams.out, writeErr: streams.err });
  try {
    await program.parseAsync([...args], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exitCodes.usage;
    throw error;
  }
}
