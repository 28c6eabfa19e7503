import { PrestageError } from '../model/errors.ts';
import type { CommandSpec } from './command-spec.ts';

export const SHELLS: readonly string[] = ['bash'];

/**
 * A completion script for bash(1), from the table of commands.
 * @throws PrestageError ERR_USAGE for a shell that is not supported
 */
export function completionScript(
  shell: string,
  commands: readonly Pick<CommandSpec, 'name' | 'alias' | 'flags' | 'forms' | 'commands'>[],
): string {
  if (!SHELLS.includes(shell)) {
    throw new PrestageError('ERR_USAGE', `completion does not support the shell "${shell}"`, `Choose one of: ${SHELLS.join(', ')}`);
  }
  const names = [...commands.flatMap(namesOf), 'help', '--help', '--version'];
  const cases = commands.map((command) => `    ${namesOf(command).join('|')}) words="${wordsOf(command).join(' ')}" ;;`);
  return `_prestage_agent() {
  local words="${names.join(' ')}"
  case "\${COMP_WORDS[1]:-}" in
${cases.join('\n')}
  esac
  [ "$COMP_CWORD" -eq 1 ] && words="${names.join(' ')}"
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}")
}
complete -o default -F _prestage_agent prestage-agent
`;
}

function namesOf({ name, alias }: Pick<CommandSpec, 'name' | 'alias'>): readonly string[] {
  return alias === undefined ? [name] : [name, alias];
}

function wordsOf(command: Pick<CommandSpec, 'flags' | 'forms' | 'commands'>): readonly string[] {
  const below = command.commands ?? [];
  const flags = [...command.flags, ...below.flatMap((one) => one.flags)].map((flag) => /--[^ ]+/.exec(flag.usage)?.[0] ?? '');
  return [...below.map((one) => one.name), ...new Set(flags), ...(command.forms === undefined ? [] : ['--output']), '--help'];
}
