import type { Terminal } from './context.ts';
import type { Answer, OutputForm } from './output.ts';

/** A flag or an argument of the command line. */
export interface Flag {
  /** As commander(1) reads it: `--label <name>`, `<stage>`. */
  readonly usage: string;
  readonly help: string;
}

/** One command of the program: parsing, help and completion come from this. */
export interface CommandSpec {
  readonly name: string;
  /** Another name for the same command. */
  readonly alias?: string;
  /** One line for the list of commands, without a full stop. */
  readonly summary: string;
  /** Sentences for the help of the command itself. */
  readonly description: string;
  readonly arguments?: readonly Flag[];
  readonly flags: readonly Flag[];
  /** Forms that `--output` accepts; left out if the command has only one form. */
  readonly forms?: readonly OutputForm[];
  readonly examples?: readonly string[];
  /** Subcommands, such as `images release`; a command that has some does nothing by itself. */
  readonly commands?: readonly CommandSpec[];
  readonly answer?: (terminal: Terminal, options: Readonly<Record<string, unknown>>, args: readonly string[]) => Promise<Answer>;
}
