import { asset } from '../assets.ts';
import { readBundle, type SealedBundle } from '../bundle/read-bundle.ts';
import type { Host } from '../host/host.ts';
import { type Bundle, hasStoreImage } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import type { Stage } from '../model/stage.ts';
import { type ClientsRequest, readClusterClients } from './cluster-clients.ts';
import { readClusterServer, type ServeRequest } from './cluster-server.ts';
import { type IgnitionConfig, type IgnitionSpec, ignitionFaults, parseConfig } from './config.ts';
import { dataLosses } from './data-losses.ts';
import { type IgnitionForm, renderForm } from './forms.ts';
import { mergeConfig, validateExisting } from './merge.ts';
import { readNamedFile } from './own-file.ts';
import { foreignOwner, isOurs, piecesOf } from './owners.ts';
import { type FailurePolicy, type IgnitionTexts, renderIgnition } from './render.ts';
import { type RunSettings, runArguments } from './run-arguments.ts';
import { checkSize, EMBED_LIMIT_BYTES, embedArchive } from './size.ts';
import { type IgnitionFault, validateConfig } from './validate.ts';

export interface IgnitionOptions extends RunSettings {
  readonly stage: Stage;
  /** Defaults to that of the override in `merge`, else to 3.1.0 for discovery and 3.2.0 for installed. */
  readonly spec?: IgnitionSpec;
  /** GPT label of the data partition; defaults to `data`. */
  readonly label?: string;
  /** sha256 of the executable, 64 hex digits. */
  readonly agentSha256?: string;
  /** sha256 of the bundle's prestage.json, 64 hex digits. */
  readonly bundleSha256?: string;
  /** Directory of a bundle; both hashes are taken from it. */
  readonly bundle?: string;
  /** Defaults to `open`. */
  readonly policy?: FailurePolicy;
  /** If set, the node also serves the others. */
  readonly serve?: ServeRequest;
  /** If set, the override is for nodes that pull from others and have no data partition. Then only stage, spec, merge and as apply of the rest. */
  readonly clients?: ClientsRequest;
  /** Path of an existing override, which the result contains. */
  readonly merge?: string;
  /** Defaults to `ign`. */
  readonly as?: IgnitionForm;
}

export interface IgnitionOutcome {
  /** For standard output; ends with a line feed. */
  readonly text: string;
  /** For standard error, one sentence each. */
  readonly warnings: readonly string[];
}

/** The pointer ignition of a host is 3.2.0 from OpenShift 4.7 on (4.6 needs --spec 3.1.0). */
const DEFAULT_SPEC: Record<Stage, IgnitionSpec> = { discovery: '3.1.0', installed: '3.2.0' };

/**
 * `prestage-agent ignition`: renders the override for a stage, or for nodes that pull from others, merges it into an existing one, and checks its
 * content and size. Prints nothing.
 * @throws PrestageError ERR_USAGE, ERR_IGNITION, ERR_IGNITION_NAME, ERR_IGNITION_SIZE, ERR_CERTIFICATE and what reading the bundle throws
 */
export async function runIgnition(options: IgnitionOptions, host: Pick<Host, 'log' | 'clock'>): Promise<IgnitionOutcome> {
  const { stage, as = 'ign' } = options;
  const existing = options.merge === undefined ? undefined : await readOverride(options.merge, options);
  const spec = existing?.config.ignition.version ?? options.spec ?? DEFAULT_SPEC[stage];
  const now = host.clock.now();
  const ours: OurOverride =
    options.clients === undefined
      ? await renderStage(options, spec, now)
      : { ...(await readClusterClients(options.clients, { stage, spec, now, existing: existing?.config })), label: undefined };
  for (const notice of ours.notices ?? []) host.log('notice', notice);
  const { config, removed } = existing === undefined ? { config: ours.config, removed: [] } : mergeConfig(existing.config, ours.config);
  refuseErrors(validateConfig(config), 'the rendered override');
  const sizeWarning = stage === 'discovery' ? measure(config, host) : undefined;
  const form = renderForm(as, { stage, config, label: ours.label });
  return {
    text: form.text,
    warnings: [
      ...ours.warnings,
      ...removed.map((name) => `${name} was a leftover of prestage-agent in the override and was removed`),
      ...foreignPieces(config),
      ...(existing?.warnings ?? []),
      ...(sizeWarning === undefined ? [] : [sizeWarning]),
      ...form.warnings,
    ],
  };
}

/** An override before it is merged. */
interface OurOverride {
  readonly config: IgnitionConfig;
  /** Label of the data partition, if the node has one. */
  readonly label: string | undefined;
  readonly warnings: readonly string[];
  /** Recommendations; nothing is wrong. */
  readonly notices?: readonly string[];
}

async function renderStage(options: IgnitionOptions, spec: IgnitionSpec, now: Date): Promise<OurOverride> {
  const { stage, label = 'data', policy = 'open' } = options;
  const sealed = options.bundle === undefined ? undefined : await readBundle(options.bundle, options.bundleSha256);
  const pins = pinsOf(options, sealed);
  const server = options.serve === undefined ? undefined : await readClusterServer(options.serve, now);
  const texts = textsOf(stage);
  const config = renderIgnition(stage, { spec, label, policy, ...pins, texts, arguments: runArguments(options, server?.served) });
  return {
    config: { ...config, storage: { ...config.storage, files: [config.storage?.files, server?.files].flatMap((files = []) => files) } },
    label,
    warnings: [...(pins.agentSha256 === undefined ? [UNPINNED] : []), ...(server?.warnings ?? [])],
    notices: sealed !== undefined && willMount(options, sealed.bundle) ? [`${PIN_IMAGES} --bundle ${options.bundle}`] : [],
  };
}

/** Whether an installed node keeps the store image of a bundle mounted. */
function willMount({ stage, delivery = 'auto', serve }: IgnitionOptions, bundle: Bundle): boolean {
  return stage === 'installed' && serve === undefined && ['auto', 'mount'].includes(delivery) && hasStoreImage(bundle, stage);
}

const PIN_IMAGES =
  'pin the images of the store image: kubelet removes images to free space, but removing an image of a store image frees none. To print manifests that pin them, and that give the store to all of root’s podman, run: prestage-agent manifests';

const UNPINNED =
  'without --agent-sha256 the launcher runs no executable from the partition, only one that already exists at /usr/local/bin/prestage-agent';

interface ExistingOverride {
  readonly config: IgnitionConfig;
  readonly warnings: readonly string[];
}

interface Pins {
  readonly agentSha256: string | undefined;
  readonly bundleSha256: string | undefined;
}

/** The hashes that the node trusts: those in the options, else those of the bundle. */
function pinsOf({ agentSha256, bundleSha256 }: IgnitionOptions, sealed: SealedBundle | undefined): Pins {
  if (sealed === undefined) return { agentSha256, bundleSha256 };
  const executable = sealed.bundle.files.find((file) => file.path === 'prestage-agent');
  return { agentSha256: agentSha256 ?? executable?.sha256, bundleSha256: sealed.sha256 };
}

/** An override keeps its specification. A lower one could make parts of others invalid, and the installer accepts the override's. */
async function readOverride(path: string, { spec, label = 'data', clients }: IgnitionOptions): Promise<ExistingOverride> {
  const config = parseConfig(await readNamedFile({ path, flag: '--merge', what: 'the override', kind: 'ignition file' }), path);
  const { version } = config.ignition;
  if (spec !== undefined && spec !== version) {
    throw new PrestageError(
      'ERR_USAGE',
      `${path} has specification ${version}, but --spec is ${spec}`,
      'Omit --spec, or change the version in the override first',
    );
  }
  // Clients have no data partition.
  const faults = [...validateExisting(config), ...(clients === undefined ? dataLosses(config, label) : [])];
  refuseErrors(faults, path);
  return { config, warnings: faults.map(({ path: place, message }) => `${path}: ${place}: ${message}`) };
}

function textsOf(stage: Stage): IgnitionTexts {
  return {
    template: asset(`ignition-templates/${stage}.ign.json`),
    unit: asset(`agent/units/prestage-agent-${stage}.service`),
    launcher: asset('agent/units/prestage-launcher.sh'),
  };
}

function refuseErrors(faults: readonly IgnitionFault[], origin: string): void {
  const errors = faults.flatMap(({ kind, path, message }) => (kind === 'error' ? [`${path}: ${message}`] : []));
  if (errors.length > 0) throw ignitionFaults(origin, errors);
}

function foreignPieces(config: IgnitionConfig): readonly string[] {
  return piecesOf(config).flatMap(({ name }) => {
    const owner = isOurs(name) ? undefined : foreignOwner(name);
    return owner === undefined ? [] : [`the override replaces ${name} of ${owner}`];
  });
}

function measure(config: IgnitionConfig, host: Pick<Host, 'log'>): string | undefined {
  const sizeBytes = embedArchive(JSON.stringify(config)).length;
  host.log('debug', `the override is ${sizeBytes} of ${EMBED_LIMIT_BYTES} bytes as a gzip'd cpio archive`);
  return checkSize("the override as a gzip'd cpio archive", sizeBytes, EMBED_LIMIT_BYTES);
}
