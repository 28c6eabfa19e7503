import { createInterface } from 'node:readline/promises';
import { PrestageError } from '../model/errors.ts';
import type { Flag } from './command-spec.ts';
import type { Terminal } from './context.ts';

/** What a person has to agree to. */
export interface Question {
  /** What will be done and what will be lost, in lines. */
  readonly plan: string;
  /** What has to be typed, exactly. */
  readonly name: string;
  /** What `--expect-serial` has to be. */
  readonly identity: { readonly kind: string; readonly value: string };
}

export interface ConfirmFlags {
  readonly isYes: boolean;
  readonly expectSerial: string | undefined;
}

export const confirmFlags: readonly Flag[] = [
  { usage: '--yes', help: 'do not ask; --expect-serial is demanded with it' },
  {
    usage: '--expect-serial <serial>',
    help: 'the serial number of the disk, as the plan shows it; for a disk image its path. Nothing is done to another disk',
  },
];

export function confirmFlagsOf(options: Readonly<Record<string, unknown>>): ConfirmFlags {
  return { isYes: options.yes === true, expectSerial: typeof options.expectSerial === 'string' ? options.expectSerial : undefined };
}

/**
 * Shows a plan, and returns where it is agreed to: by flags, or by a person who types the name of the disk on a terminal.
 * @throws PrestageError ERR_SERIAL where the disk is another than the flags say, ERR_NOT_CONFIRMED
 */
export async function confirm(terminal: Terminal, question: Question, flags: ConfirmFlags): Promise<void> {
  const { identity, name, plan } = question;
  terminal.err.write(`${plan}\n`);
  if (flags.expectSerial !== undefined && flags.expectSerial.trim() !== identity.value) {
    throw new PrestageError(
      'ERR_SERIAL',
      `${name} has the ${identity.kind} "${identity.value}", and "${flags.expectSerial}" is expected; nothing was written`,
      'Look at the disks (lsblk -d -o NAME,MODEL,SERIAL,SIZE): device names can change from boot to boot',
    );
  }
  if (flags.isYes && flags.expectSerial !== undefined) return;
  const demand = `Give --yes --expect-serial '${identity.value}' (the ${identity.kind} of the disk that is meant)`;
  if (flags.isYes)
    throw new PrestageError('ERR_NOT_CONFIRMED', `--yes alone does not say which disk is meant; nothing was written`, demand);
  const { in: input } = terminal;
  if (input?.isTTY !== true || terminal.err.isTTY !== true)
    throw new PrestageError('ERR_NOT_CONFIRMED', 'there is no terminal to ask on; nothing was written', demand);
  const answer = await ask(input, terminal, `Type ${name} to go on: `);
  if (answer === name) return;
  throw new PrestageError('ERR_NOT_CONFIRMED', `"${answer}" was typed, not ${name}; nothing was written`, 'Give the command again');
}

/**
 * Shows a plan that concerns no disk, and returns where it is agreed to: by a flag, or by a person who types a word on a terminal.
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
    throw new PrestageError('ERR_NOT_CONFIRMED', 'there is no terminal to ask on; nothing was changed', 'Give --yes');
  const answer = await ask(input, terminal, `Type ${word} to go on: `);
  if (answer === word) return;
  throw new PrestageError('ERR_NOT_CONFIRMED', `"${answer}" was typed, not ${word}; nothing was changed`, 'Give the command again');
}

async function ask(input: NodeJS.ReadableStream, terminal: Terminal, prompt: string): Promise<string> {
  terminal.err.write(prompt);
  using lines = createInterface({ input, terminal: false });
  const closed = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
  const stopped = new Promise<never>((_resolve, reject) => {
    terminal.stop.addEventListener(
      'abort',
      () => reject(new PrestageError('ERR_NOT_CONFIRMED', 'the question was ended; nothing was written', 'Give the command again')),
      { once: true },
    );
  });
  return await Promise.race([lines.question(''), closed, stopped]);
}
