import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { temporaryDirectory } from '../host/remove-tree.ts';
import { PrestageError } from '../model/errors.ts';
import { quoteInput } from '../model/faults.ts';
import { readReference } from '../model/reference.ts';
import type { Flag } from './command-spec.ts';
import type { Terminal } from './context.ts';

export const credsFlag: Flag = {
  usage: '--creds <credentials>',
  help: 'USER:PASSWORD for the registry, instead of --authfile; for USER alone, the agent asks for the password',
};

interface Creds {
  readonly user: string;
  /** Undefined if it is to be asked for. */
  readonly password: string | undefined;
}

/** A login in a file that only its owner can read. Disposing of it removes the file. */
export interface LoginFile extends AsyncDisposable {
  readonly file: string;
}

/** @throws PrestageError ERR_USAGE; its message does not contain the password */
export function parseCreds(text: string): Creds {
  const colon = text.indexOf(':');
  const [user, password] = colon < 0 ? [text, undefined] : [text.slice(0, colon), text.slice(colon + 1)];
  if (user === '') throw new PrestageError('ERR_USAGE', '--creds has no user', 'Give --creds USER or --creds USER:PASSWORD');
  return { user, password };
}

/**
 * The registry of images; a login goes to one registry only. Pure.
 * @param images pull-specs, with or without `docker://`
 * @throws PrestageError ERR_USAGE
 */
export function registryFor(images: readonly string[]): string {
  const read = images.map((image) => ({ image, reference: readReference(image.replace(/^docker:\/\//, '')) }));
  const local = read.find(({ reference }) => typeof reference === 'string');
  if (local !== undefined)
    throw new PrestageError('ERR_USAGE', `--creds is for a registry, but ${quoteInput(local.image)} is not in one`, 'Omit --creds');
  const registries = [...new Set(read.flatMap(({ reference }) => (typeof reference === 'string' ? [] : [reference.registry])))];
  const [registry] = registries;
  if (registry !== undefined && registries.length === 1) return registry;
  throw new PrestageError(
    'ERR_USAGE',
    `--creds is for one registry, but the images are in ${registries.length}: ${registries.join(', ')}`,
    'Give --authfile with a login for each of them',
  );
}

/** The content of an auth file. Source: containers-auth.json(5). Pure. */
export function authFileText(registry: string, { user, password }: { readonly user: string; readonly password: string }): string {
  return JSON.stringify({ auths: { [registry]: { auth: Buffer.from(`${user}:${password}`).toString('base64') } } });
}

/**
 * Puts the login of `--creds` into a private file, because everybody can read the command lines of other programs.
 * @throws PrestageError ERR_USAGE, ERR_INTERRUPTED
 */
export async function loginFile(terminal: Terminal, creds: string, images: readonly string[]): Promise<LoginFile> {
  const registry = registryFor(images);
  const { user, password } = parseCreds(creds);
  const login = { user, password: password ?? (await askPassword(terminal, `Password of ${user} at ${registry}: `)) };
  const directory = await temporaryDirectory('prestage-login-');
  const file = join(directory.path, 'auth.json');
  await writeFile(file, authFileText(registry, login), { mode: 0o600 });
  return { file, [Symbol.asyncDispose]: async () => await directory[Symbol.asyncDispose]() };
}

/** Asks without showing what is typed. */
async function askPassword(terminal: Terminal, prompt: string): Promise<string> {
  const { in: input } = terminal;
  if (input?.isTTY !== true || terminal.err.isTTY !== true)
    throw new PrestageError(
      'ERR_USAGE',
      '--creds has no password, and there is no terminal on which to ask for it',
      'Give --authfile FILE, which no process list shows, or --creds USER:PASSWORD',
    );
  terminal.err.write(prompt);
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  using lines = createInterface({ input, output: nowhere, terminal: true });
  const answer = await new Promise<string | undefined>((resolve) => {
    lines.once('line', resolve);
    lines.once('close', () => resolve(undefined));
    lines.once('SIGINT', () => resolve(undefined));
  });
  terminal.err.write('\n');
  if (answer !== undefined) return answer;
  throw new PrestageError('ERR_INTERRUPTED', 'no password was typed', 'Run the command again');
}
