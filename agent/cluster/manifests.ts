import { encodeDataUrl } from '../model/data-url.ts';
import { PrestageError } from '../model/errors.ts';
import { STORE_PATH } from '../model/places.ts';

/** Manifests that configure a cluster at its installation, so that the agent does not have to add files on the nodes. */
export const MANIFEST_FORMS = ['machineconfig', 'containerruntimeconfig', 'pinned-images'] as const;
export type ManifestForm = (typeof MANIFEST_FORMS)[number];
export const ROLES = ['master', 'worker'] as const;
export type Role = (typeof ROLES)[number];

export interface ManifestRequest {
  readonly forms: readonly ManifestForm[];
  /** The machine config pool. */
  readonly role: Role;
  /** Absolute path of the additional image store; that of the agent if left out. */
  readonly store?: string;
  /** References that kubelet must not remove, for `pinned-images`. */
  readonly pinned: readonly string[];
}

/** An object of the Kubernetes API. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly spec: Readonly<Record<string, unknown>>;
}

/** Manifests in the order in which they are applied, and notices about them. */
export interface RenderedManifests {
  readonly manifests: readonly Manifest[];
  readonly notices: readonly string[];
}

const API = 'machineconfiguration.openshift.io/v1';
/** Source: the CRD containerruntimeconfigs.machineconfiguration.openshift.io, additionalImageStores.path. */
const STORE = /^\/[a-zA-Z0-9/._-]+$/;
const STORE_LIMIT = 256;

/**
 * The manifests that give the nodes of a role the additional image store from their first boot on, and keep images from being removed. Pure.
 * @throws PrestageError ERR_USAGE
 */
export function renderManifests({ forms, role, store = STORE_PATH, pinned }: ManifestRequest): RenderedManifests {
  if (!STORE.test(store) || store.includes('//') || store.length > STORE_LIMIT) {
    throw new PrestageError(
      'ERR_USAGE',
      `${JSON.stringify(store)} is not a path that a ContainerRuntimeConfig accepts`,
      `Give an absolute path of at most ${STORE_LIMIT} of the characters a-z, A-Z, 0-9, "/", ".", "_" and "-", without "//"`,
    );
  }
  const rendered = forms.map((form) => renderForm(form, role, store, pinned));
  return { manifests: rendered.flatMap(({ manifests }) => manifests), notices: rendered.flatMap(({ notices }) => notices) };
}

function renderForm(form: ManifestForm, role: Role, store: string, pinned: readonly string[]): RenderedManifests {
  switch (form) {
    case 'machineconfig':
      return {
        manifests: [
          machineConfig(role, 'prestage-store', { '/etc/containers/storage.conf': storageConf(store), [TMPFILES]: storeDirectory(store) }),
        ],
        notices: [
          'the MachineConfig owns /etc/containers/storage.conf: changes of a ContainerRuntimeConfig to that file do not reach the nodes',
        ],
      };
    case 'containerruntimeconfig':
      return {
        manifests: [machineConfig(role, 'prestage-store-path', { [TMPFILES]: storeDirectory(store) }), containerRuntimeConfig(role, store)],
        notices: ['additionalImageStores is a technology preview: the cluster needs the feature gate AdditionalStorageConfig'],
      };
    case 'pinned-images':
      return {
        manifests: [machineConfig(role, 'prestage-pinned-images', { '/etc/crio/crio.conf.d/60-prestage-pinned': pinnedImages(pinned) })],
        notices: [
          'CRI-O uses only the list of pinned images in the last file by name: 60-prestage-pinned replaces 50-pinned-images of PinnedImageSets',
        ],
      };
  }
}

/** Source: github.com/openshift/api, machineconfiguration/v1, MachineConfig; ignition docs/configuration-v3_2.md. */
function machineConfig(role: Role, name: string, files: Readonly<Record<string, string>>): Manifest {
  return {
    apiVersion: API,
    kind: 'MachineConfig',
    metadata: { name: `99-${role}-${name}`, labels: { 'machineconfiguration.openshift.io/role': role } },
    spec: {
      config: {
        ignition: { version: '3.2.0' },
        storage: {
          files: Object.entries(files).map(([path, text]) => ({
            path,
            mode: 0o644,
            overwrite: true,
            contents: { source: encodeDataUrl(text) },
          })),
        },
      },
    },
  };
}

function containerRuntimeConfig(role: Role, store: string): Manifest {
  return {
    apiVersion: API,
    kind: 'ContainerRuntimeConfig',
    metadata: { name: `prestage-store-${role}` },
    spec: {
      machineConfigPoolSelector: { matchLabels: { [`pools.operator.machineconfiguration.openshift.io/${role}`]: '' } },
      containerRuntimeConfig: { additionalImageStores: [{ path: store }] },
    },
  };
}

/**
 * Engines refuse to work with a missing store, even in a boot before the agent is on the node, and a MachineConfig cannot make directories. So systemd
 * makes it, early in every boot. Source: tmpfiles.d(5).
 */
const TMPFILES = '/etc/tmpfiles.d/50-prestage-store.conf';

function storeDirectory(store: string): string {
  return `# The additional image store of prestage-agent; empty until a store image is mounted there.\nd ${store} 0755 root root -\n`;
}

/** What the Machine Config Operator's own storage.conf sets, and the store. Source: containers-storage.conf(5). */
function storageConf(store: string): string {
  return `# The storage of an OpenShift node, with the additional image store of prestage-agent.
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"

[storage.options]
additionalimagestores = [
    "${store}",
]

[storage.options.pull_options]
enable_partial_images = "false"
use_hard_links = "false"
ostree_repos = ""

[storage.options.overlay]
skip_mount_home = "true"
size = ""
`;
}

/** Source: crio.conf(5), pinned_images: names without an asterisk must match exactly. */
function pinnedImages(references: readonly string[]): string {
  const lines = [...new Set(references)].toSorted().map((reference) => `  ${JSON.stringify(reference)},\n`);
  return `# Images of the bundle of prestage-agent, which kubelet must not remove.\n[crio.image]\npinned_images = [\n${lines.join('')}]\n`;
}
