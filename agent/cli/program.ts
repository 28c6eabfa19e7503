import { Command, CommanderError, Option } from 'commander';
import { journalPrefix } from '../host/log.ts';
import { type ErrorRecord, errorRecord, exitCodeOf, exitCodes } from '../model/errors.ts';
import type { CommandSpec } from './command-spec.ts';
import { commands } from './commands.ts';
import { quieted, type Terminal, writesToJournal } from './context.ts';
import { withoutHabits } from './habits.ts';
import { ExitWith, OUTPUT_FORMS, type OutputForm, render, renderError } from './output.ts';
import { withSudo } from './require-root.ts';
import { versionText } from './version.ts';

/** Columns of a help text: those of a console, so that the text is the same everywhere. */
const HELP_WIDTH = 80;

/**
 * Runs one command line: data goes to `out`, messages and errors to `err` (with `--output json` errors are JSON, too).
 * @param args the arguments after the program's name
 * @returns the process exit code
 */
export async function runProgram(args: readonly string[], terminal: Terminal): Promise<number> {
  let exitCode = 0;
  const form = wantedForm(args);
  const program = buildProgram(terminal, (code) => {
    exitCode = code;
  });
  // The messages of the parser are text for people; programs get them as data.
  if (form !== 'text') silenceErrors(program);
  try {
    await program.parseAsync([...withoutHabits(args)], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      if (form !== 'text') terminal.err.write(renderError(usageError(error), form));
      return exitCodes.usage;
    }
    const record = recordOf(error instanceof ExitWith ? error.cause : error);
    const text = renderError(record, form);
    terminal.err.write(form === 'text' && writesToJournal(terminal) ? text.replace(/^/gm, journalPrefix('error')) : text);
    if (record.code === 'ERR_INTERNAL' && error instanceof Error && terminal.env.PRESTAGE_DEBUG !== undefined)
      terminal.err.write(`${error.stack}\n`);
    return error instanceof ExitWith ? error.exitCode : exitCodeOf(record.code);
  }
}

/** The command tree, from the table of commands. */
function buildProgram(terminal: Terminal, onExit: (code: number) => void): Command {
  const program = new Command('prestage-agent')
    .description('Makes prestaged container images available on an OpenShift node.')
    .version(versionText(), '-V, --version', 'print the version and exit')
    .helpOption('-h, --help', 'print help and exit')
    .helpCommand('help [command]', 'Print help for a command')
    .showHelpAfterError('(prestage-agent --help lists commands and options)')
    .addHelpText(
      'after',
      '\nExit codes: 0 ready or complete, 2 usage, 3 partial, 4 failed.\nAll codes: docs/errors.md. Help for a command: prestage-agent COMMAND --help',
    )
    .exitOverride()
    .configureHelp({ sortOptions: false })
    .configureOutput({
      writeOut: (text) => terminal.out.write(text),
      writeErr: (text) => terminal.err.write(text),
      getOutHelpWidth: () => HELP_WIDTH,
      getErrHelpWidth: () => HELP_WIDTH,
    });
  for (const spec of commands) program.addCommand(buildCommand(spec, program, terminal, onExit));
  return program;
}

function buildCommand(spec: CommandSpec, parent: Command, terminal: Terminal, onExit: (code: number) => void): Command {
  const command = new Command(spec.name)
    .copyInheritedSettings(parent)
    .summary(spec.summary)
    .description(spec.description)
    .helpOption('-h, --help', 'print help and exit');
  if (spec.alias !== undefined) command.alias(spec.alias);
  for (const argument of spec.arguments ?? []) command.argument(argument.usage, argument.help);
  for (const flag of spec.flags) command.option(flag.usage, flag.help);
  if (spec.forms) command.addOption(new Option('-o, --output <form>', 'output format').choices([...spec.forms]).default('text'));
  if (spec.examples) command.addHelpText('after', `\nExamples:\n${spec.examples.map((example) => `  ${example}\n`).join('')}`);
  for (const below of spec.commands ?? []) command.addCommand(buildCommand(below, command, terminal, onExit));
  const { answer } = spec;
  if (answer === undefined) return command;
  return command.action(async () => {
    const options = command.opts<Record<string, unknown>>();
    const given = await answer(options.quiet === true ? quieted(terminal) : terminal, options, command.args);
    terminal.out.write(render(given, formOf(options.output)));
    onExit(given.exitCode);
  });
}

function recordOf(error: unknown): ErrorRecord {
  return withSudo(errorRecord(error), error);
}

function silenceErrors(command: Command): void {
  command.configureOutput({ writeErr: () => undefined });
  for (const below of command.commands) silenceErrors(below);
}

function usageError(error: CommanderError): ErrorRecord {
  const message = error.code === 'commander.help' ? 'no command is given' : error.message.replace(/^error: /, '').replaceAll('\n', ' ');
  return { code: 'ERR_USAGE', message, remedy: 'Run: prestage-agent --help' };
}

/** The output form that a command line requests, even if the line as a whole is not valid. */
function wantedForm(args: readonly string[]): OutputForm {
  const index = args.findIndex((arg) => arg === '--output' || arg === '-o');
  const joined = args.map((arg) => /^(?:--output=|-o)(.+)$/.exec(arg)?.[1]).find((value) => value !== undefined);
  return formOf(index < 0 ? joined : args[index + 1]);
}

function formOf(value: unknown): OutputForm {
  return OUTPUT_FORMS.find((form) => form === value) ?? 'text';
}
