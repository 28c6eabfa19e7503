import type { Digest } from '../model/digest.ts';
import { nameOf, parseReference } from '../model/reference.ts';
import { type HeldSignature, type JudgeTools, judge } from './judge.ts';
import { type Policy, type PolicyEntry, policyEntryOf } from './policy.ts';

/** An image that a mirror of ours can answer for. */
export interface ShownImage {
  /** Full references by the names of their sources. */
  readonly names: readonly string[];
  /** Of the manifest that engines of this machine verify: of a list, the instance. */
  readonly digest: Digest;
  /** What the mirror shows for that manifest. */
  readonly signatures: readonly HeldSignature[];
}

/** A repository for which a mirror of ours would be in the way: engines take the first answer, and do not go on to the next place if they refuse it. */
export interface UnshownRepository {
  readonly repository: string;
  /** The file and the scope of the policy that demands the signature. */
  readonly file: string;
  readonly scope: string;
  /** An image of it, and what its policy says of it. */
  readonly image: string;
  readonly reason: string;
  /** Images of the repository that are refused. */
  readonly refused: number;
}

/**
 * The repositories of which a policy demands signatures that our mirror cannot show. What a policy rejects or takes without a signature is the
 * same with and without a mirror, and is not named.
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

/** Whether a policy demands a signature of an image. What rejects it does not. */
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
