import { readFile } from 'node:fs/promises';
import type { Host } from '../host/host.ts';
import type { Bundle, BundleImage } from '../model/bundle.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { STAGES, type Stage } from '../model/stage.ts';
import { reasonOf } from '../model/system-error.ts';
import { readSignatures } from '../signatures/bundle-signatures.ts';
import { openSigned } from '../signatures/gpg.ts';
import { type HeldSignature, type JudgeTools, judge } from '../signatures/judge.ts';
import { type Policy, policyEntryOf } from '../signatures/policy.ts';

/** An image that a node with the policy would refuse. */
export interface RefusedImage {
  readonly stage: Stage;
  /** The name of the image in a pull. */
  readonly name: string;
  /** The entry of the policy that decides. */
  readonly scope: string;
  readonly reason: string;
}

/** What a node with a policy would do with the images of a bundle. */
export interface PolicyReport {
  /** The file of the policy, or the OpenShift release that contains it. */
  readonly policy: string;
  /** Number of image names that the policy accepts. */
  readonly accepted: number;
  readonly refused: readonly RefusedImage[];
}

/**
 * Checks the signatures of a bundle against a policy: key, signed text, digest and identity, as engines do in a pull. Each name of each image counts
 * as a separate pull.
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

/** Gives a policy what it needs from the verifying machine: keys and gpg. @param scratch directory that only this user can write to */
export function judgeTools(host: Host, scratch: string): JudgeTools {
  return {
    readKey: async (path) =>
      await readFile(path).catch((cause: NodeJS.ErrnoException) => {
        throw new PrestageError(
          'ERR_POLICY_FILE',
          `the key ${path} of the policy cannot be read: ${reasonOf(cause)}`,
          'Put the key there, or use a policy with keyData',
          { cause },
        );
      }),
    openGpg: async (message, keys) => await openSigned(host.exec, scratch, { message, keys }),
  };
}

/** If signatures cannot be read, the image counts as unsigned, and the refusal gives the reason. */
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
