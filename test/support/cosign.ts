import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { nodeRoot } from '../boot/root.ts';

/** A key pair of cosign's, made for one test. */
export interface Cosign {
  /** PEM. */
  readonly publicKey: string;
  /** Signs an image in a registry without TLS. @param identity the reference that is signed */
  sign(reference: string, identity: string): Promise<void>;
}

/** Makes keys in a directory of its own. The program is Debian 13's, and runs on Debian 12 as it is. Source: cosign-sign(1). */
export async function makeCosign(directory: string): Promise<Cosign> {
  const program = join(await nodeRoot(), 'usr/bin/cosign');
  const env = { COSIGN_PASSWORD: '', HOME: directory };
  await mkdir(directory);
  await output(execOnLinux, program, ['generate-key-pair'], { cwd: directory, env });
  return {
    publicKey: await readFile(join(directory, 'cosign.pub'), 'utf8'),
    sign: async (reference, identity) => {
      // Nothing goes to a log of the public.
      const flags = ['--yes', '--tlog-upload=false', '--allow-http-registry', '--key', join(directory, 'cosign.key')];
      await output(execOnLinux, program, ['sign', ...flags, '--sign-container-identity', identity, reference], { cwd: directory, env });
    },
  };
}
