import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { type Digest, digestOf, hexOf } from '../../agent/model/digest.ts';
import { formatLookasideRecord, LOOKASIDE_FILE, type LookasideEntry, lookasidePath } from '../../agent/signatures/lookaside.ts';

/** A key that signs images as Red Hat does for its registries, by gpg itself. The lease ends its agent. */
export interface GpgKey extends AsyncDisposable {
  /** The public half, as gpg exports it. */
  readonly publicKey: Buffer;
  /** The OpenPGP message for an image. Source: containers/image, docs/containers-signature.5.md. */
  sign(digest: Digest, reference: string): Promise<Buffer>;
}

export async function makeGpgKey(): Promise<GpgKey> {
  const home = await mkdtemp(join(tmpdir(), 'gpg-'));
  const gpg = async (...args: readonly string[]): Promise<string> =>
    await output(execOnLinux, 'gpg', ['--homedir', home, '--batch', '--quiet', '--yes', ...args]);
  await gpg('--passphrase', '', '--quick-generate-key', 'signer@example.com', 'rsa2048', 'sign');
  await gpg('--output', join(home, 'public'), '--export');
  return {
    publicKey: await readFile(join(home, 'public')),
    sign: async (digest, reference) => {
      const [text, message] = [join(home, `text-${digest}`), join(home, `message-${digest}`)];
      const critical = {
        identity: { 'docker-reference': reference },
        image: { 'docker-manifest-digest': digest },
        type: 'atomic container signature',
      };
      await writeFile(text, JSON.stringify({ critical, optional: {} }));
      await gpg('--output', message, '--sign', text);
      return await readFile(message);
    },
    [Symbol.asyncDispose]: async () => {
      await execOnLinux('gpgconf', ['--homedir', home, '--kill', 'all']);
      await rm(home, { recursive: true, force: true });
    },
  };
}

/** Puts a signature where engines look for it below the folder of a lookaside. */
export async function putInLookaside(
  lookaside: string,
  { path, subject, number = 1 }: { readonly path: string; readonly subject: Digest; readonly number?: number },
  message: Buffer,
): Promise<void> {
  const file = join(lookaside, lookasidePath(path, subject, number));
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, message);
}

/** Puts signatures into an OCI image layout as a pull does. */
export async function addGpgSignatures(
  layout: string,
  signed: readonly (Pick<LookasideEntry, 'repository' | 'subject'> & { readonly messages: readonly Buffer[] })[],
): Promise<void> {
  for (const bytes of signed.flatMap(({ messages }) => messages))
    await writeFile(join(layout, 'blobs/sha256', hexOf(digestOf(bytes))), bytes);
  const entries = signed.map(({ repository, subject, messages }) => ({
    repository,
    subject,
    files: messages.map((bytes) => digestOf(bytes)),
  }));
  await writeFile(join(layout, LOOKASIDE_FILE), formatLookasideRecord(entries));
}
