import { readFile } from 'node:fs/promises';
import type { MirrorRequest } from '../engine/registries-drop-in.ts';
import { hostPath } from '../host/host.ts';
import type { RunContext } from '../load/context.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { LOOKASIDE_PATH } from '../model/places.ts';
import { openSigned } from '../signatures/gpg.ts';
import type { JudgeTools } from '../signatures/judge.ts';
import { readNodePolicies } from '../signatures/node-policy.ts';
import { demandsSignature, type ShownImage, type UnshownRepository, unshownRepositories } from '../signatures/unshown.ts';
import { type AnsweredImage, shownImages } from '../tree/tree-signatures.ts';
import type { OwnSignatures, SignaturePlaces } from './signature-places.ts';

/** A tree that is about to be served, and the images that it answers for. */
export interface Answering extends OwnSignatures {
  /** The directory that holds `docker`. */
  readonly tree: string;
  readonly images: readonly AnsweredImage[];
}

/** The sources that get a mirror, and why others get none. */
export interface WithheldMirrors {
  readonly sources: MirrorRequest['sources'];
  readonly withheld: ErrorRecord | undefined;
}

/** A run keeps files below it that only root may read and write. */
const SCRATCH = '/run/prestage-agent';
/** How many repositories a message names; it gives the number of the others. */
const NAMED = 3;

/**
 * Leaves out sources whose policy demands signatures that our mirror cannot show. Engines take the first mirror that has a manifest, and if they then
 * refuse the image, they ask no other registry: such a mirror would permanently keep a node from images that it could pull.
 * If a policy cannot be read, no mirror is certain to be right.
 * @param looks where engines look for signatures of what our registry serves
 */
export async function withholdMirrors(
  sources: MirrorRequest['sources'],
  { tree, images }: Answering,
  { host, looks }: Pick<RunContext, 'host'> & { readonly looks: Pick<SignaturePlaces, 'looksForSignatures' | 'looksInLookaside'> },
): Promise<WithheldMirrors> {
  const { policies, faults } = await readNodePolicies(host);
  const [fault] = faults;
  if (fault !== undefined) return { sources: [], withheld: unreadable(fault) };
  const demanding = images.filter(({ names }) => names.some((name) => demandsSignature(policies, name)));
  if (demanding.length === 0) return { sources, withheld: undefined };
  const lookaside = looks.looksInLookaside ? hostPath(host, LOOKASIDE_PATH) : undefined;
  const shown = await shownImages({ root: tree, lookaside }, demanding, host.architecture);
  const seen = looks.looksForSignatures ? shown : shown.map((image): ShownImage => ({ ...image, signatures: [] }));
  const tools: JudgeTools = {
    // A missing key accepts no signature, as in the engines.
    readKey: async (path) => await readFile(hostPath(host, path)).catch(() => Buffer.alloc(0)),
    openGpg: async (message, keys) => await openSigned(host.exec, hostPath(host, SCRATCH), { message, keys }),
  };
  const unshown = await unshownRepositories(policies, seen, tools);
  if (unshown.length === 0) return { sources, withheld: undefined };
  const repositories = new Set(unshown.map(({ repository }) => repository));
  return { sources: sources.filter(({ prefix }) => !repositories.has(prefix)), withheld: unsignedError(unshown) };
}

function unreadable(fault: ErrorRecord): ErrorRecord {
  return { ...fault, message: `${fault.message}; engines might refuse images from our mirrors, so none are set up` };
}

function unsignedError(unshown: readonly UnshownRepository[]): ErrorRecord {
  const named = unshown
    .slice(0, NAMED)
    .map(({ repository, file, scope, image, reason }) => `${repository} (${file}, "${scope}": ${image}: ${reason})`);
  const more = unshown.length > NAMED ? `, and ${unshown.length - NAMED} more` : '';
  return errorRecord(
    new PrestageError(
      'ERR_MIRROR_UNSIGNED',
      `engines would refuse images of ${unshown.length} ${unshown.length === 1 ? 'repository' : 'repositories'} from our mirror, so these are still pulled as before: ${named.join(', ')}${more}`,
      'Connect the node to the network for these images, or build the bundle from a pull with their signatures (pull --signatures require) and write it again',
    ),
  );
}
