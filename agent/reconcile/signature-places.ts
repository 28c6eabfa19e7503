import type { SystemFile } from '../engine/owned-files.ts';
import { OWNED_MARK } from '../engine/system-file.ts';
import type { Host } from '../host/host.ts';
import { planRegistriesD, REGISTRIES_D_PATH, readRegistriesD } from '../signatures/own-registries-d.ts';
import type { Answering } from './withhold.ts';

/** How engines are led to the signatures beside the images that our registry serves. */
export interface SignaturePlaces {
  readonly files: readonly SystemFile[];
  readonly notices: readonly string[];
  /** Whether engines will look for them there. */
  readonly looksForSignatures: boolean;
}

/**
 * The file of registries.d for the registry of this node. A bundle without signatures needs none. Changes nothing.
 * @param address `host:port` of that registry
 */
export async function signaturePlaces(host: Host, { hasSignatures }: Answering, address: string): Promise<SignaturePlaces> {
  if (!hasSignatures) return { files: [], notices: [], looksForSignatures: false };
  const own = planRegistriesD([address], await readRegistriesD(host), OWNED_MARK);
  switch (own.kind) {
    case 'write':
      return { files: [{ path: REGISTRIES_D_PATH, content: own.content, how: 'add' }], notices: [], looksForSignatures: true };
    case 'there':
      return { files: [], notices: [], looksForSignatures: true };
    case 'refused':
      return {
        files: [],
        notices: [
          `engines do not look for signatures at the registry of this node, as ${REGISTRIES_D_PATH} cannot be added: ${own.reason}`,
        ],
        looksForSignatures: false,
      };
  }
}
