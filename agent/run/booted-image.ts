import { readFile, realpath } from 'node:fs/promises';
import { ifMissing } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { type Digest, isDigest } from '../model/digest.ts';

/** Names the deployment that was booted. Source: ostree, ostree-prepare-root(1). */
const KERNEL_ARGUMENT = /(?:^|\s)ostree=(\/ostree\/boot\.[01]\/[^\s/]+\/[^\s/]+\/\d+)(?:\s|$)/;
/** What a deployment was made from. Source: rpm-ostree, origin files: `container-image-reference=ostree-unverified-registry:NAME@DIGEST`. */
const ORIGIN = /^container-image-reference=.*@(sha256:[0-9a-f]{64})$/m;

/** The digest of the image from which the running operating system was deployed; undefined if it was not deployed from one, or this is unknown. */
export async function bootedImage(host: Host, kernelArguments?: string): Promise<Digest | undefined> {
  const text = kernelArguments ?? (await readFile('/proc/cmdline', 'utf8').catch(() => ''));
  const link = KERNEL_ARGUMENT.exec(text)?.[1];
  if (link === undefined) return undefined;
  const deployment = await realpath(hostPath(host, link)).catch(() => undefined);
  if (deployment === undefined) return undefined;
  const digest = ORIGIN.exec(await readFile(`${deployment}.origin`, 'utf8').catch(ifMissing(() => '')))?.[1];
  return digest !== undefined && isDigest(digest) ? digest : undefined;
}
