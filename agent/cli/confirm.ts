import { basename, resolve } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { PrestageError } from '../model/errors.ts';
import type { Flag } from './command-spec.ts';
import type { Terminal } from './context.ts';

/** What a person has to confirm. */
export interface Question {
  /** What will be done and what will be lost, in lines. */
  readonly plan: string;
  /** The exact text that has to be typed. */
  readonly name: string;
  /** The value that `--expect-serial` must have. */
  readonly identity: { readonly kind: string; readonly value: string };
}

export interface ConfirmFlags {
  readonly isYes: boolean;
  readonly expectSerial: string | undefined;
}

export const confirmFlags: readonly Flag[] = [
  { usage: '--yes', help: 'do not ask for confirmation; requires --expect-serial' },
  {
    usage: '--expect-serial <serial>',
    help: 'serial number of the disk as the plan shows it, or the path of a disk image; any other disk is refused',
  },
];

export function confirmFlagsOf(options: Readonly<Record<string, unknown>>): ConfirmFlags {
  return { isYes: options.yes === true, expectSerial: typeof options.expectSerial === 'string' ? options.expectSerial : undefined };
}

/**
 * Shows a plan, and returns if it is confirmed: by flags, or by a person who types the name of the disk on a terminal.
 * @throws PrestageError ERR_SERIAL if the disk is not the one that the flags name, ERR_NOT_CONFIRMED
 */
export async function confirm(terminal: Terminal, question: Question, flags: ConfirmFlags): Promise<void> {
  const { identity, name, plan } = question;
  terminal.err.write(`${plan}\n`);
  if (flags.expectSerial !== undefined && flags.expectSerial.trim() !== identity.value) {
    throw new PrestageError(
      'ERR_SERIAL',
      `${name} has the ${identity.kind} "${identity.value}", but "${flags.expectSerial}" was expected; nothing was written`,
      'Look at the disks (lsblk -d -o NAME,MODEL,SERIAL,SIZE): device names can change from boot to boot',
    );
  }
  if (flags.isYes && flags.expectSerial !== undefined) return;
  const demand = `Give --yes --expect-serial '${identity.value}' (the ${identity.kind} of the intended disk)`;
  if (flags.isYes) throw new PrestageError('ERR_NOT_CONFIRMED', `--yes alone does not identify the disk; nothing was written`, demand);
  const { in: input } = terminal;
  if (input?.isTTY !== true || terminal.err.isTTY !== true)
    throw new PrestageError('ERR_NOT_CONFIRMED', 'there is no terminal on which to ask for confirmation; nothing was written', demand);
  const answer = await ask(input, terminal, `Type ${name} to continue: `);
  if (isNameOf(answer, name)) return;
  throw new PrestageError('ERR_NOT_CONFIRMED', `expected ${name}, got "${answer}"; nothing was written`, 'Run the command again');
}

/**
 * Whether a person means this disk or disk image: its path as the prompt shows it, another path of it from the current directory, or its last part.
 * The prompt follows the plan of this one disk, so a part of its path cannot mean another.
 */
export function isNameOf(answer: string, name: string, directory = process.cwd()): boolean {
  const typed = answer.trim();
  return typed !== '' && (typed === basename(name) || resolve(directory, typed) === resolve(directory, name));
}

/**
 * Shows a plan that does not concern a disk, and returns if it is confirmed: by a flag, or by a person who types a word on a terminal.
 * @throws PrestageError ERR_NOT_CONFIRMED
 */
export async function confirmPlan(
  terminal: Terminal,
  { plan, word }: { readonly plan: string; readonly word: string },
  isYes: boolean,
): Promise<void> {
  terminal.err.write(`${plan}\n`);
  if (isYes) return;
  const { in: input } = terminal;
  if (input?.isTTY !== true || terminal.err.isTTY !== true)
    throw new PrestageError(
      'ERR_NOT_CONFIRMED',
      'there is no terminal on which to ask for confirmation; nothing was changed',
      'Give --yes',
    );
  const answer = await ask(input, terminal, `Type ${word} to continue: `);
  if (answer === word) return;
  throw new PrestageError('ERR_NOT_CONFIRMED', `expected ${word}, got "${answer}"; nothing was changed`, 'Run the command again');
}

async function ask(input: NodeJS.ReadableStream, terminal: Terminal, prompt: string): Promise<string> {
  terminal.err.write(prompt);
  using lines = createInterface({ input, terminal: false });
  const closed = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
  const stopped = new Promise<never>((_resolve, reject) => {
    terminal.stop.addEventListener(
      'abort',
      () =>
        reject(new PrestageError('ERR_NOT_CONFIRMED', 'the confirmation was interrupted; nothing was written', 'Run the command again')),
      { once: true },
    );
  });
  return await Promise.race([lines.question(''), closed, stopped]);
}
