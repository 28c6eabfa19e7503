import type { Host } from '../host/host.ts';
import { LOOKASIDE_PATH } from '../model/places.ts';
import { planRegistriesD, REGISTRIES_D_PATH, readRegistriesD } from '../signatures/own-registries-d.ts';
import { OWNED_MARK } from '../system-files/file.ts';
import type { SystemFile } from '../system-files/put.ts';

/** The signatures that a registry of ours can show. */
export interface OwnSignatures {
  /** Whether signatures lie beside its images. */
  readonly hasSignatures: boolean;
  /** Whether GPG signatures lie in our lookaside. */
  readonly hasLookaside: boolean;
}

/** How engines find the signatures of the images that our registry serves. */
export interface SignaturePlaces {
  readonly files: readonly SystemFile[];
  readonly notices: readonly string[];
  /** Whether engines will look for them beside the images. */
  readonly looksForSignatures: boolean;
  /** Whether engines will look for GPG signatures in our lookaside. */
  readonly looksInLookaside: boolean;
}

/** As engines of this node name the directory. */
const LOOKASIDE = `file://${LOOKASIDE_PATH}`;
const NOWHERE = { files: [], notices: [], looksForSignatures: false, looksInLookaside: false };

/**
 * The file of registries.d for the registry of this node. A bundle without signatures needs none. Changes nothing.
 * @param address `host:port` of that registry
 */
export async function signaturePlaces(
  host: Host,
  { hasSignatures, hasLookaside }: OwnSignatures,
  address: string,
): Promise<SignaturePlaces> {
  if (!hasSignatures && !hasLookaside) return NOWHERE;
  const wanted = { addresses: [address], lookaside: hasLookaside ? LOOKASIDE : undefined };
  const own = planRegistriesD(wanted, await readRegistriesD(host), OWNED_MARK);
  switch (own.kind) {
    case 'write': {
      const files: readonly SystemFile[] = [{ path: REGISTRIES_D_PATH, content: own.content, how: 'add' }];
      return { files, notices: [], looksForSignatures: true, looksInLookaside: hasLookaside };
    }
    case 'there': {
      const isMissed = hasLookaside && !own.hasLookaside;
      const notice = `engines do not look for GPG signatures of images from the registry of this node: ${own.file} has the key "${address}" without "lookaside: ${LOOKASIDE}"`;
      return { files: [], notices: isMissed ? [notice] : [], looksForSignatures: true, looksInLookaside: hasLookaside && own.hasLookaside };
    }
    case 'refused':
      return {
        ...NOWHERE,
        notices: [
          `engines do not look for signatures at the registry of this node, because ${REGISTRIES_D_PATH} cannot be added: ${own.reason}`,
        ],
      };
  }
}
