import type { Digest } from '../model/digest.ts';
import { nameOf, parseReference } from '../model/reference.ts';
import { type HeldSignature, type JudgeTools, judge } from './judge.ts';
import { type Policy, type PolicyEntry, policyEntryOf } from './policy.ts';

/** An image that a mirror of ours can serve. */
export interface ShownImage {
  /** Full references at its sources. */
  readonly names: readonly string[];
  /** Digest of the manifest that engines of this machine verify; for a list, that of the instance. */
  readonly digest: Digest;
  /** The signatures that the mirror presents for that manifest. */
  readonly signatures: readonly HeldSignature[];
}

/** A repository whose pulls a mirror of ours would break: engines take the first answer, and if they refuse it, do not try the next place. */
export interface UnshownRepository {
  readonly repository: string;
  /** The file and the scope of the policy that requires the signature. */
  readonly file: string;
  readonly scope: string;
  /** One refused image of it, and the reason. */
  readonly image: string;
  readonly reason: string;
  /** Number of refused images of the repository. */
  readonly refused: number;
}

/**
 * Finds repositories for which a policy requires signatures that our mirror cannot present. Images that a policy rejects, or accepts without a
 * signature, are left out, because a mirror makes no difference for them.
 */
export async function unshownRepositories(
  policies: readonly Policy[],
  images: readonly ShownImage[],
  tools: JudgeTools,
): Promise<readonly UnshownRepository[]> {
  const found = new Map<string, UnshownRepository>();
  for (const { names, digest, signatures } of images) {
    for (const fullName of names) {
      for (const entry of demandingEntries(policies, fullName)) {
        const verdict = await judge(entry, { fullName, digest, signatures }, tools);
        if (verdict.accepted) continue;
        const repository = nameOf(parseReference(fullName));
        const { file, scope } = entry;
        const earlier = found.get(repository) ?? { repository, file, scope, image: fullName, reason: verdict.reason, refused: 0 };
        found.set(repository, { ...earlier, refused: earlier.refused + 1 });
        break;
      }
    }
  }
  return [...found.values()].toSorted((a, b) => (a.repository < b.repository ? -1 : 1));
}

/** Whether a policy requires a signature for an image. A policy that rejects the image does not count. */
export function demandsSignature(policies: readonly Policy[], fullName: string): boolean {
  return demandingEntries(policies, fullName).length > 0;
}

function demandingEntries(policies: readonly Policy[], fullName: string): readonly PolicyEntry[] {
  return policies.map((policy) => policyEntryOf(policy, fullName)).filter(isDemanding);
}

function isDemanding({ requirements }: PolicyEntry): boolean {
  const isRejected = requirements.some(({ kind }) => kind === 'reject');
  return !isRejected && requirements.some(({ kind }) => kind === 'signed' || kind === 'unknown');
}
