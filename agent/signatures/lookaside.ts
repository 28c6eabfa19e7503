import * as v from 'valibot';
import { type Digest, hexOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { listFaults, schemaFaults } from '../model/faults.ts';
import { digestSchema } from '../model/schemas.ts';
import { SIGNATURES_LIMIT } from './attachment.ts';

/** The GPG signatures of one manifest. They are stored outside of the registry, below an address in registries.d. */
export interface LookasideEntry {
  /** Repository of the image, with its registry. */
  readonly repository: string;
  /** The manifest that is signed. */
  readonly subject: Digest;
  /** Digests of the OpenPGP messages, in the order in which engines read them. */
  readonly files: readonly Digest[];
}

/** File in a pulled OCI image layout, which has no other place for such signatures. The messages are blobs of the layout. */
export const LOOKASIDE_FILE = 'lookaside-signatures.json';
/** The same for signatures of releases, which the cluster-version operator checks. These belong to no repository. */
export const RELEASE_SIGNATURES_FILE = 'release-signatures.json';
/** Room for 60,000 entries of about 250 characters. */
export const LOOKASIDE_LIMIT_BYTES = 16 * 1024 * 1024;

const recordSchema = v.object({
  signatures: v.array(
    v.object({
      repository: v.pipe(v.string(), v.nonEmpty('is empty')),
      subject: digestSchema,
      files: v.pipe(
        v.array(digestSchema),
        v.minLength(1, 'names no signature'),
        v.maxLength(SIGNATURES_LIMIT, `names more than ${SIGNATURES_LIMIT} signatures`),
      ),
    }),
  ),
});

/**
 * Path of a signature below the base of a lookaside. Pure. Source: containers/image, docs/signature-protocols.md.
 * @param path of the repository, without its registry
 * @param number of the signature, from 1
 */
export function lookasidePath(path: string, subject: Digest, number: number): string {
  return `${path}@sha256=${hexOf(subject)}/signature-${number}`;
}

/** @throws PrestageError ERR_SIGNATURE with every fault */
export function parseLookasideRecord(text: string, where: string): readonly LookasideEntry[] {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(undefined, 'is not JSON'), recordSchema), text);
  if (parsed.success) return parsed.output.signatures;
  throw new PrestageError(
    'ERR_SIGNATURE',
    listFaults(
      `${where} cannot be read`,
      schemaFaults(parsed.issues).map((fault) => `${where} cannot be read: ${fault}`),
    ),
    `Remove ${where}, then pull again: complete blobs are kept`,
  );
}

/** Formats entries. The same entries give the same bytes in any order. Pure. */
export function formatLookasideRecord(entries: readonly LookasideEntry[]): string {
  const keyOf = ({ repository, subject }: LookasideEntry): string => `${repository}@${subject}`;
  const signatures = entries
    .map(({ repository, subject, files }) => ({ repository, subject, files }))
    .toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  return `${JSON.stringify({ signatures }, undefined, 1)}\n`;
}
