import { type InstalledBase, installedBase } from '../base.ts';
import type { Bundle } from '../factory.ts';

/** The ignition of an installed node that needs the images of a bundle, each for something else; every pull asks a registry where nothing else is said. */
export async function nodeBase({ set }: Bundle, options: Partial<InstalledBase>): Promise<string> {
  return await installedBase({
    spec: '3.2.0',
    settings: {},
    mcoImage: set.images.whiteouts.reference,
    nodeIpImage: set.images.release.reference,
    kubeletImages: set.installed.map(({ reference }) => reference),
    pull: 'always',
    ...options,
  });
}
