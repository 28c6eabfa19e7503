import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { nodeRoot } from '../boot/root.ts';

/** A key pair of cosign's, made for one test. */
export interface Cosign {
  /** PEM. */
  readonly publicKey: string;
  /** Signs an image in a registry without TLS. @param identity the reference that is signed */
  sign(reference: string, identity: string): Promise<void>;
  /** Attests a file of JSON. @param isBundle as a referrer, not under a tag */
  attest(reference: string, predicate: string, isBundle: boolean): Promise<void>;
  attachSbom(reference: string, file: string): Promise<void>;
  /** Verifies attestations with the public key and gives what cosign prints; fails if there are none. */
  verifyAttestation(reference: string, isBundle: boolean): Promise<string>;
  downloadSbom(reference: string): Promise<string>;
}

/** So that a program that waits for the network does not wait for ever. */
const LIMIT_MS = 60_000;

/** Makes keys in a directory of its own. The program is Debian 13's, and runs on Debian 12 as it is. Source: cosign-sign(1). */
export async function makeCosign(directory: string): Promise<Cosign> {
  const program = join(await nodeRoot(), 'usr/bin/cosign');
  const env = { COSIGN_PASSWORD: '', HOME: directory };
  await mkdir(directory);
  await output(execOnLinux, program, ['generate-key-pair'], { cwd: directory, env });
  const cosign = async (args: readonly string[]): Promise<string> =>
    await output(execOnLinux, program, args, { cwd: directory, env, timeoutMs: LIMIT_MS });
  const bundle = (isBundle: boolean): readonly string[] => (isBundle ? ['--new-bundle-format'] : []);
  // cosign would ask the network for the authorities of the public.
  const roots = join(directory, 'roots.json');
  await writeFile(roots, '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}');
  return {
    attest: async (reference, predicate, isBundle) => {
      const flags = ['--yes', '--tlog-upload=false', '--allow-http-registry', '--key', join(directory, 'cosign.key'), ...bundle(isBundle)];
      await cosign(['attest', ...flags, '--type', 'custom', '--predicate', predicate, reference]);
    },
    attachSbom: async (reference, file) => void (await cosign(['attach', 'sbom', '--allow-http-registry', '--sbom', file, reference])),
    verifyAttestation: async (reference, isBundle) => {
      const flags = [
        '--insecure-ignore-tlog',
        '--allow-http-registry',
        '--key',
        join(directory, 'cosign.pub'),
        ...bundle(isBundle),
        ...(isBundle ? ['--trusted-root', roots] : []),
      ];
      return await cosign(['verify-attestation', ...flags, '--type', 'custom', reference]);
    },
    downloadSbom: async (reference) => await cosign(['download', 'sbom', '--allow-http-registry', reference]),
    publicKey: await readFile(join(directory, 'cosign.pub'), 'utf8'),
    sign: async (reference, identity) => {
      // Nothing goes to a log of the public.
      const flags = ['--yes', '--tlog-upload=false', '--allow-http-registry', '--key', join(directory, 'cosign.key')];
      await output(execOnLinux, program, ['sign', ...flags, '--sign-container-identity', identity, reference], { cwd: directory, env });
    },
  };
}
