import { nameOf, parseReference } from '../model/reference.ts';
import { registryRepository } from '../model/registry-path.ts';
import type { MirrorRequest } from './registries-plan.ts';

/**
 * The repositories that images come from, each once and sorted, with the places at which registries of ours serve them.
 * One entry for each repository: with a wider prefix, engines would ask our mirrors for other images too, in vain. All components of a release are in
 * one repository.
 * @param references of the bundle's images, such as `quay.io/openshift-release-dev/ocp-v4.0-art-dev@sha256:…`
 * @param addresses `host:port` of our registries, in the order in which they are to be asked
 * @throws PrestageError ERR_REFERENCE
 */
export function mirrorSources(references: readonly string[], addresses: readonly string[]): MirrorRequest['sources'] {
  const sources = new Map(
    references.map((text) => {
      const reference = parseReference(text);
      const prefix = nameOf(reference);
      return [prefix, { prefix, mirrors: addresses.map((address) => `${address}/${registryRepository(reference)}`) }];
    }),
  );
  return [...sources.values()].toSorted((a, b) => (a.prefix < b.prefix ? -1 : 1));
}
