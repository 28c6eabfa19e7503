import { planOsImages } from '../../agent/factory/compose/os-images.ts';
import type { BuildFacts } from '../../agent/factory/compose/plan.ts';
import { planCompression } from '../../agent/factory/compose/store-compression.ts';

/** Facts of a build of these stages, with nothing else in it unless told. */
export function buildFacts(facts: Pick<BuildFacts, 'stages'> & Partial<BuildFacts>): BuildFacts {
  return {
    architecture: 'amd64',
    payloads: ['store'],
    listFiles: new Map(),
    agents: [],
    stampSeconds: 0,
    unpackedBytes: new Map(),
    releaseSignatures: [],
    canLink: true,
    osImages: planOsImages([], undefined),
    compression: planCompression('', 'auto', undefined),
    ...facts,
  };
}
