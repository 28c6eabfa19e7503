import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { encodeDataUrl } from '../../agent/model/data-url.ts';
import type { IgnitionSpec } from '../../agent/units/config.ts';
import { fieldFile } from '../support/ignition.ts';
import type { ClusterPolicy } from '../support/policies.ts';

/** What somebody else's ignition brings to a node, before ours is merged into it. */
export interface BaseOptions {
  readonly spec: IgnitionSpec;
  /** Lines of /etc/prestage-agent/config.yaml, which an author of ignition may add. */
  readonly settings: Readonly<Record<string, string>>;
}

export interface DiscoveryBase extends BaseOptions {
  readonly agentImage: string;
}

export interface InstalledBase extends BaseOptions {
  readonly mcoImage: string;
  readonly nodeIpImage: string;
  /** Those of which the kubelet starts a container each. */
  readonly kubeletImages: readonly string[];
  /** `always` is the text of the Machine Config Operator, which asks a registry even for what is there; `missing` pulls only what is not. */
  readonly pull: 'always' | 'missing';
  /** What the cluster demands of images; nothing if left out. */
  readonly policy?: ClusterPolicy;
  /** The operating system that the pivot reads as rpm-ostree does; it reads none where left out. */
  readonly osImage?: string;
  /** What the network gives the node a while after it has started; it has none where left out. IPv4. */
  readonly address?: string;
  /** Other files that it has, by path. */
  readonly files?: Readonly<Record<string, string>>;
}

interface File {
  readonly path: string;
  readonly mode: number;
  readonly text: string;
}

interface Unit {
  readonly name: string;
  readonly text: string;
}

/** Stands for rpm-ostree. */
const IMAGE_PROXY = '/etc/image-proxy.py';
const PULL_UNIT = 'machine-config-daemon-pull.service';
/** Stands in the text of the Machine Config Operator for the image that it pulls. */
const PULL_IMAGE = '{{ .Images.machineConfigOperator }}';

/** An ignition shaped as the discovery ISO's: the assisted agent, its helpers, an installer. */
export async function discoveryBase(options: DiscoveryBase): Promise<string> {
  const fill = { '@AGENT_IMAGE@': options.agentImage };
  const program = async (name: string) => executable(name, await text(`discovery/${name}.sh`, fill));
  const files = [...(await Promise.all(['agent-fix-bz1964591', 'agent-pull-image', 'coreos-installer'].map(program))), ...common(options)];
  return config(options.spec, files, [{ name: 'agent.service', text: await text('discovery/agent.service', fill) }]);
}

/** An ignition shaped as that of an installed node: the units of the Machine Config Operator between CRI-O's wipe and the kubelet. */
export async function installedBase(options: InstalledBase): Promise<string> {
  const { osImage } = options;
  const fill = {
    '@MCO_IMAGE@': options.mcoImage,
    '@NODEIP_IMAGE@': options.nodeIpImage,
    '@ADDRESS@': options.address ?? '',
    '@READ_SYSTEM@': osImage === undefined ? '' : `ExecStart=/usr/bin/python3 ${IMAGE_PROXY} ${osImage}\n`,
  };
  const names = ['crio-wipe.service', 'crio.service', 'kubelet-dependencies.target', 'kubelet.service', 'nodeip-configuration.service'];
  const network = options.address === undefined ? [] : ['NetworkManager-wait-online.service'];
  const units = [...names, ...network, 'machine-config-daemon-firstboot.service'].map(async (name) => ({
    name,
    text: await text(`installed/${name}`, fill),
  }));
  const program = async (name: string) => executable(name, await text(`installed/${name}.sh`, fill));
  const files = [
    ...(await Promise.all(['crio-stand-in', 'kubelet-stand-in'].map(program))),
    {
      path: '/etc/machine-config-daemon/generate_podman_policy_args.sh',
      mode: 0o755,
      text: await text('installed/generate_podman_policy_args.sh', {}),
    },
    plain('/var/lib/kubelet/config.json', '{"auths":{}}\n'),
    plain('/etc/kubelet-images', options.kubeletImages.map((image) => `${image}\n`).join('')),
    plain('/etc/ignition-machine-config-encapsulated.json', '{}\n'),
    ...(osImage === undefined ? [] : [plain(IMAGE_PROXY, await readFile(join(import.meta.dirname, '../support/image-proxy.py'), 'utf8'))]),
    ...operatorFiles(options.policy),
    ...Object.entries(options.files ?? {}).map(([path, content]) => plain(path, content)),
    ...common(options),
  ];
  return config(options.spec, files, [...(await Promise.all(units)), { name: PULL_UNIT, text: await pullUnit(options) }]);
}

/** The unit that the Machine Config Operator renders, from its own template where that lies beside the checkout. */
async function pullUnit({ pull, mcoImage }: InstalledBase): Promise<string> {
  const theirs = fieldFile(`mco/${PULL_UNIT}.yaml`);
  const template = theirs === undefined ? await text(`installed/${PULL_UNIT}`, {}) : String(parseYaml(theirs).contents);
  const filled = template.replaceAll(/\{\{if .*?\{\{end.*?\}\}\n?/gs, '').replaceAll(PULL_IMAGE, mcoImage);
  if (pull === 'always') return filled;
  return filled.replace('while ! /usr/bin/podman pull', `while ! /usr/bin/podman image exists '${mcoImage}' && ! /usr/bin/podman pull`);
}

/** Whether the texts of the Machine Config Operator lie beside the checkout; without them there are stand-ins of the same form. */
export function hasOperatorTexts(): boolean {
  return fieldFile(`mco/${PULL_UNIT}.yaml`) !== undefined;
}

const POLICY_FILE = '/etc/containers/policy.json';

/** Files that the Machine Config Operator owns: any change of them would mark the node degraded. */
export const OPERATOR_FILES = [
  '/etc/containers/storage.conf',
  '/etc/containers/registries.conf',
  POLICY_FILE,
  '/etc/crio/crio.conf.d/00-default',
];

function operatorFiles(policy: ClusterPolicy | undefined): readonly File[] {
  const sources = ['container-storage', 'container-registries', 'policy', 'crio'];
  const standIns = [
    '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n[storage.options]\nadditionalimagestores = [\n]\n',
    "unqualified-search-registries = ['registry.access.redhat.com', 'docker.io']\n",
    '{"default": [{"type": "insecureAcceptAnything"}]}\n',
    '[crio]\ninternal_wipe = true\n',
  ];
  const files = OPERATOR_FILES.map((path, index) => {
    if (policy !== undefined && path === POLICY_FILE) return plain(path, policy.policy);
    const theirs = fieldFile(`mco/${sources[index]}.yaml`);
    return plain(path, theirs === undefined ? (standIns[index] ?? '') : String(parseYaml(theirs).contents.inline));
  });
  return policy?.signatures === undefined
    ? files
    : [...files, plain('/etc/containers/registries.d/sigstore-registries.yaml', policy.signatures)];
}

function common({ settings }: BaseOptions): readonly File[] {
  const lines = Object.entries(settings).map(([key, value]) => `${key}: ${value}\n`);
  return [
    plain('/etc/motd', 'a node of a test\n'),
    ...(lines.length > 0 ? [plain('/etc/prestage-agent/config.yaml', lines.join(''))] : []),
  ];
}

function config(version: IgnitionSpec, files: readonly File[], units: readonly Unit[]): string {
  return JSON.stringify({
    ignition: { version },
    storage: {
      files: files.map(({ path, mode, text }) => ({ path, mode, overwrite: true, contents: { source: encodeDataUrl(text) } })),
    },
    systemd: { units: units.map(({ name, text }) => ({ name, enabled: text.includes('[Install]'), contents: text })) },
  });
}

function executable(name: string, text: string): File {
  return { path: `/usr/local/bin/${name}`, mode: 0o755, text };
}

function plain(path: string, text: string): File {
  return { path, mode: 0o644, text };
}

async function text(path: string, values: Readonly<Record<string, string>>): Promise<string> {
  const template = await readFile(join(import.meta.dirname, 'base', path), 'utf8');
  return Object.entries(values).reduce((filled, [name, value]) => filled.replaceAll(name, value), template);
}
