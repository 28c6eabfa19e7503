import * as v from 'valibot';
import { stringify } from 'yaml';
import { readBundle } from '../bundle/read-bundle.ts';
import { MANIFEST_FORMS, type Manifest, type ManifestForm, ROLES, renderManifests } from '../cluster/manifests.ts';
import { type ConfigMap, renderReleaseConfigMaps } from '../cluster/release-configmaps.ts';
import { type Bundle, bundleImages, hasStoreImage } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { STORE_PATH } from '../model/places.ts';
import { readSignatureFile } from '../signatures/bundle-signatures.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor, type Terminal } from './context.ts';
import type { Answer } from './output.ts';

/** `prestage-agent manifests`: manifests for the installation of a cluster, instead of files that the agent adds on its nodes. */
export const manifestsCommand: CommandSpec = {
  name: 'manifests',
  summary: 'Print manifests for a new cluster',
  description:
    'Print manifests for a new cluster: they tell its nodes about the additional image store, protect the images of the store from removal, or make the cluster trust the releases in a bundle.',
  flags: [
    {
      usage: '--as <form>',
      help: `${MANIFEST_FORMS.join(', ')}, signatures, or all; the first two are alternatives, and all has the first of them (default: machineconfig, and pinned-images for a bundle with a store image)`,
    },
    { usage: '--role <role>', help: `machine config pool: ${ROLES.join(' or ')} (default: master)` },
    { usage: '--bundle <dir>', help: 'bundle; its images of the stage installed are pinned' },
    { usage: '--store <path>', help: `path of the additional image store on the nodes (default: ${STORE_PATH})` },
  ],
  forms: ['text', 'json'],
  examples: [
    'prestage-agent manifests --bundle ./bundle > openshift/99-prestage-store.yaml',
    'prestage-agent manifests --as containerruntimeconfig --role worker',
    'prestage-agent manifests --as pinned-images --bundle ./bundle',
    'prestage-agent manifests --as signatures --bundle ./bundle | oc apply -f -',
  ],
  answer: answerManifests,
};

const FORMS = [...MANIFEST_FORMS, 'signatures', 'all'] as const;
const schema = v.object({
  as: v.exactOptional(v.picklist(FORMS, `must be one of ${FORMS.join(', ')}`)),
  role: v.exactOptional(v.picklist(ROLES, `must be ${ROLES.join(' or ')}`), 'master'),
  bundle: v.exactOptional(v.string()),
  store: v.exactOptional(v.string()),
});

async function answerManifests(terminal: Terminal, options: Readonly<Record<string, unknown>>): Promise<Answer> {
  const parsed = v.safeParse(schema, options);
  if (!parsed.success) {
    const faults = parsed.issues.map((issue) => `--${v.getDotPath(issue)} ${issue.message}`);
    throw new PrestageError('ERR_USAGE', faults.join('; '), 'Run: prestage-agent manifests --help');
  }
  const { as, role, bundle: directory, store } = parsed.output;
  if (as === 'pinned-images' && directory === undefined) {
    throw new PrestageError('ERR_USAGE', 'pinned-images needs a bundle, which names the images', 'Give --bundle DIR');
  }
  const host = hostFor(terminal, {});
  if (as === 'signatures') return answerOf(await signatureManifests(directory));
  const bundle = directory === undefined ? undefined : (await readBundle(directory)).bundle;
  const forms = formsOf(as, bundle);
  const pinned = bundle === undefined || !forms.includes('pinned-images') ? [] : installedNames(bundle, directory ?? '');
  const { manifests, notices } = renderManifests({ forms, role, pinned, ...(store !== undefined && { store }) });
  const unpinned = directory === undefined ? [UNPINNED] : [];
  for (const notice of [...unpinned, ...notices]) host.log('notice', notice);
  const signed = as === 'all' && bundle !== undefined ? await releaseConfigMaps(bundle, directory ?? '') : [];
  return answerOf([...manifests, ...signed]);
}

function answerOf(manifests: readonly (Manifest | ConfigMap)[]): Answer {
  // A folded data URL would be the same text, but a search would not find it.
  const text = manifests.map((manifest) => stringify(manifest, { lineWidth: 0 })).join('---\n');
  return { data: { apiVersion: 'v1', kind: 'List', items: manifests }, text, exitCode: 0 };
}

/** @throws PrestageError ERR_USAGE, ERR_PAYLOAD_MISSING, ERR_BUNDLE*, ERR_SIGNATURE */
async function signatureManifests(directory: string | undefined): Promise<readonly ConfigMap[]> {
  if (directory === undefined) {
    throw new PrestageError('ERR_USAGE', 'signatures needs a bundle, which names the releases', 'Give --bundle DIR');
  }
  const manifests = await releaseConfigMaps((await readBundle(directory)).bundle, directory);
  if (manifests.length > 0) return manifests;
  throw new PrestageError(
    'ERR_PAYLOAD_MISSING',
    `${directory} has no release signatures`,
    'Pull with --release-signatures, and build the bundle again',
  );
}

async function releaseConfigMaps({ releaseSignatures = [] }: Bundle, directory: string): Promise<readonly ConfigMap[]> {
  return renderReleaseConfigMaps(
    await Promise.all(
      releaseSignatures.map(async ({ release, files }) => ({
        release,
        messages: await Promise.all(files.map(async (file) => await readSignatureFile(directory, file))),
      })),
    ),
  );
}

const UNPINNED =
  'no image is pinned, because no bundle is given: kubelet may try to remove images of the store, which frees no space. Give --bundle DIR';

/** A mounted store cannot be made smaller, so its images are pinned unless other manifests are requested. Pure. */
function formsOf(as: ManifestForm | 'all' | undefined, bundle: Bundle | undefined): readonly ManifestForm[] {
  // A ContainerRuntimeConfig would have no effect beside the MachineConfig, which owns the same file.
  if (as === 'all') return bundle === undefined ? ['machineconfig'] : ['machineconfig', 'pinned-images'];
  if (as !== undefined) return [as];
  return bundle !== undefined && hasStoreImage(bundle, 'installed') ? ['machineconfig', 'pinned-images'] : ['machineconfig'];
}

function installedNames(bundle: Bundle, directory: string): readonly string[] {
  return bundleImages(bundle, 'installed', directory).flatMap(({ reference, names }) => [reference, ...names]);
}
