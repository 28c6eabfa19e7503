import { readFile } from 'node:fs/promises';
import type { Host } from '../host/host.ts';
import type { Bundle, BundleImage } from '../model/bundle.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { STAGES, type Stage } from '../model/stage.ts';
import { readSignatures } from '../signatures/bundle-signatures.ts';
import { openSigned } from '../signatures/gpg.ts';
import { type HeldSignature, type JudgeTools, judge } from '../signatures/judge.ts';
import { type Policy, policyEntryOf } from '../signatures/policy.ts';

/** An image that a node with the policy would refuse. */
export interface RefusedImage {
  readonly stage: Stage;
  /** The name that is pulled. */
  readonly name: string;
  /** The entry of the policy that decides over it. */
  readonly scope: string;
  readonly reason: string;
}

/** What a node with a policy would do with the images of a bundle. */
export interface PolicyReport {
  /** The file of the policy, or the release of OpenShift that has it. */
  readonly policy: string;
  /** Names of images that are taken. */
  readonly accepted: number;
  readonly refused: readonly RefusedImage[];
}

/**
 * Checks the signatures of a bundle against a policy: key, signed text, digest and identity, as engines do at a pull. Each name of each image is a
 * pull of its own.
 * @param directory the bundle
 */
export async function verifyPolicy(
  directory: string,
  { bundle, policy }: { readonly bundle: Bundle; readonly policy: Policy },
  tools: JudgeTools,
): Promise<PolicyReport> {
  const refused: RefusedImage[] = [];
  let accepted = 0;
  for (const stage of STAGES) {
    for (const image of bundle.stages[stage]?.images ?? []) {
      const found = await signaturesOf(directory, image);
      for (const name of image.names) {
        const entry = policyEntryOf(policy, name);
        const judged = { fullName: name, digest: image.instanceDigest ?? image.manifestDigest, signatures: found.signatures };
        const verdict = await judge(entry, judged, tools);
        if (verdict.accepted) accepted++;
        else refused.push({ stage, name, scope: entry.scope, reason: found.fault ?? verdict.reason });
      }
    }
  }
  return { policy: policy.file, accepted, refused };
}

/** What a policy takes from the machine that verifies. @param scratch directory that only this user can write to */
export function judgeTools(host: Host, scratch: string): JudgeTools {
  return {
    readKey: async (path) =>
      await readFile(path).catch((cause: NodeJS.ErrnoException) => {
        throw new PrestageError(
          'ERR_POLICY_FILE',
          `the key ${path} of the policy cannot be read: ${cause.code ?? cause.message}`,
          'Put the key there, or give a policy with keyData',
          { cause },
        );
      }),
    openGpg: async (message, keys) => await openSigned(host.exec, scratch, { message, keys }),
  };
}

/** Signatures that cannot be read are none, and the reason is told with the refusal. */
async function signaturesOf(
  directory: string,
  image: BundleImage,
): Promise<{ readonly signatures: readonly HeldSignature[]; readonly fault?: string }> {
  const verified = image.instanceDigest ?? image.manifestDigest;
  try {
    const all = await readSignatures(directory, image);
    return { signatures: all.flatMap(({ subject, held }) => (subject === verified ? held : [])) };
  } catch (error) {
    if (!(error instanceof PrestageError)) throw error;
    return { signatures: [], fault: errorRecord(error).message };
  }
}
