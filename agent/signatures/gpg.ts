import { mkdtemp, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Exec, quote } from '../host/exec.ts';
import { PrestageError } from '../model/errors.ts';

/** An armored key block; its checksum is ignored. Source: RFC 9580, section 6. */
const ARMOR =
  /-----BEGIN PGP PUBLIC KEY BLOCK-----(?:\r?\n[^\r\n]+)*?\r?\n\r?\n([A-Za-z0-9+/=\r\n]+?)\r?\n(?:=[A-Za-z0-9+/]{4}\r?\n)?-----END PGP/g;
const LIMIT_MS = 10_000;

/**
 * Opens an OpenPGP message that holds a signed text, with gpgv, which trusts only the given keys.
 * Source: gpgv(1); containers/image, docs/containers-signature.5.md, "OpenPGP cryptographic envelope".
 * @param scratch directory that only this user can write to
 * @returns the text, or the reason why it is not accepted
 */
export async function openSigned(
  exec: Exec,
  scratch: string,
  { message, keys }: { readonly message: Buffer; readonly keys: readonly Buffer[] },
): Promise<Buffer | string> {
  const work = await mkdtemp(join(scratch, 'gpgv-'));
  const [keyring, signed, text] = [join(work, 'keyring'), join(work, 'signed'), join(work, 'text')];
  try {
    await writeFile(keyring, Buffer.concat(keys.flatMap(binaryKeys)));
    await writeFile(signed, message);
    const result = await exec('gpgv', ['--homedir', work, '--keyring', keyring, '--output', text, signed], { timeoutMs: LIMIT_MS });
    if (result.exitCode === 0) return await readFile(text);
    if (/No public key/i.test(result.stderr)) return 'the signature was made with another key';
    return `gpgv rejects the signature: ${quote(result.stderr)}`;
  } catch (error) {
    if (!(error instanceof PrestageError) || error.code !== 'ERR_TOOL_MISSING') throw error;
    return 'gpgv is not installed on this machine, so the signature cannot be checked';
  } finally {
    for (const path of [keyring, signed, text]) await rm(path, { force: true });
    await rmdir(work);
  }
}

/** Keys in the binary form of a keyring. Policies have them armored or binary. */
function binaryKeys(key: Buffer): readonly Buffer[] {
  const blocks = [...key.toString('latin1').matchAll(ARMOR)].map(([, encoded = '']) => Buffer.from(encoded, 'base64'));
  return blocks.length > 0 ? blocks : [key];
}
