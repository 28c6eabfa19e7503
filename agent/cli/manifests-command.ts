import * as v from 'valibot';
import { stringify } from 'yaml';
import { readBundle } from '../bundle/read-bundle.ts';
import { MANIFEST_FORMS, type ManifestForm, ROLES, renderManifests } from '../engine/manifests.ts';
import { type Bundle, bundleImages, hasStoreImage } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { STORE_PATH } from '../model/places.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor, type Terminal } from './context.ts';
import type { Answer } from './output.ts';

/** `prestage-agent manifests`: what a cluster is told at its installation instead of files that the agent adds on its nodes. */
export const manifestsCommand: CommandSpec = {
  name: 'manifests',
  description:
    'Print manifests that make the nodes of a new cluster know the additional image store, or keep its images from being removed.',
  flags: [
    {
      usage: '--as <form>',
      help: `${MANIFEST_FORMS.join(', ')}, or all; the first two are alternatives (default: machineconfig, and pinned-images for a bundle with a store image)`,
    },
    { usage: '--role <role>', help: `machine config pool: ${ROLES.join(' or ')} (default: master)` },
    { usage: '--bundle <dir>', help: 'a bundle, whose images of the stage installed are pinned' },
    { usage: '--store <path>', help: `the additional image store on the nodes (default: ${STORE_PATH})` },
  ],
  forms: ['text', 'json'],
  examples: [
    'prestage-agent manifests --bundle ./bundle > openshift/99-prestage-store.yaml',
    'prestage-agent manifests --as containerruntimeconfig --role worker',
    'prestage-agent manifests --as pinned-images --bundle ./bundle',
  ],
  act: actManifests,
};

const schema = v.object({
  as: v.exactOptional(v.picklist([...MANIFEST_FORMS, 'all'])),
  role: v.exactOptional(v.picklist(ROLES), 'master'),
  bundle: v.exactOptional(v.string()),
  store: v.exactOptional(v.string()),
});

async function actManifests(terminal: Terminal, options: Readonly<Record<string, unknown>>): Promise<Answer> {
  const parsed = v.safeParse(schema, options);
  if (!parsed.success) {
    const faults = parsed.issues.map((issue) => `--${v.getDotPath(issue)}: ${issue.message}`);
    throw new PrestageError('ERR_USAGE', faults.join('; '), 'Look at: prestage-agent manifests --help');
  }
  const { as, role, bundle: directory, store } = parsed.output;
  if (as === 'pinned-images' && directory === undefined) {
    throw new PrestageError('ERR_USAGE', 'nothing says which images are to be pinned', 'Give the bundle: --bundle DIR');
  }
  const host = hostFor(terminal, {});
  const bundle = directory === undefined ? undefined : (await readBundle(directory)).bundle;
  const forms = formsOf(as, bundle);
  const pinned = bundle === undefined || !forms.includes('pinned-images') ? [] : installedNames(bundle, directory ?? '');
  const { manifests, notices } = renderManifests({ forms, role, pinned, ...(store !== undefined && { store }) });
  const unpinned = directory === undefined ? [UNPINNED] : [];
  for (const notice of [...unpinned, ...notices]) host.log('notice', notice);
  // A folded data URL would still be the same text, but nobody could find it again.
  const text = manifests.map((manifest) => stringify(manifest, { lineWidth: 0 })).join('---\n');
  return { data: { apiVersion: 'v1', kind: 'List', items: manifests }, text, exitCode: 0 };
}

const UNPINNED =
  'no image is pinned, because no bundle is given: kubelet removes images to make room, and to remove one of a store image makes none. Give --bundle DIR';

/** What is mounted as a store cannot be made smaller, so its images are pinned where nothing else is asked for. Pure. */
function formsOf(as: ManifestForm | 'all' | undefined, bundle: Bundle | undefined): readonly ManifestForm[] {
  if (as === 'all') return MANIFEST_FORMS.filter((form) => form !== 'pinned-images' || bundle !== undefined);
  if (as !== undefined) return [as];
  return bundle !== undefined && hasStoreImage(bundle, 'installed') ? ['machineconfig', 'pinned-images'] : ['machineconfig'];
}

function installedNames(bundle: Bundle, directory: string): readonly string[] {
  return bundleImages(bundle, 'installed', directory).flatMap(({ reference, names }) => [reference, ...names]);
}
