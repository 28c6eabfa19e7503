import { availableParallelism } from 'node:os';
import * as v from 'valibot';
import { type BundleFacts, bundleFacts } from '../bundle/bundle-facts.ts';
import { readBundle } from '../bundle/read-bundle.ts';
import { build } from '../factory/compose/build.ts';
import type { BuildReport } from '../factory/compose/options.ts';
import { OS_IMAGE_CHOICES, type OsImageChoice, type OsImagePlan } from '../factory/compose/os-images.ts';
import { PAYLOAD_KINDS } from '../factory/compose/plan.ts';
import { COMPRESSION_CHOICES } from '../factory/compose/store-compression.ts';
import { type Bundle, compressionText } from '../model/bundle.ts';
import { formatBytes, numberOf } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import type { CommandSpec } from './command-spec.ts';
import { actFor, hostFor, type Terminal } from './context.ts';
import { flagOf } from './flag-of.ts';
import { payloadText } from './inspect-command.ts';
import type { Answer } from './output.ts';
import { dryRunFlag, quietFlag } from './setting-flags.ts';

/** `prestage-agent build`: builds the bundle that goes to the partition. */
export const buildCommand: CommandSpec = {
  name: 'build',
  summary: 'Build a bundle from pulled images',
  description:
    'Build a bundle from pulled images: the payloads, the executable, and prestage.json with the size and sha256 of every file. Unchanged parts are kept.',
  flags: [
    { usage: '--from <dir>', help: 'OCI image layout or folder of archives, as written by pull' },
    { usage: '--to <dir>', help: 'folder of the bundle: new, empty, or from an earlier build' },
    { usage: '--payload <kinds>', help: `comma-separated list of ${PAYLOAD_KINDS.join(', ')} (default: oci)` },
    { usage: '--list-discovery <file>', help: 'image list of the stage discovery (default: the one in --from)' },
    { usage: '--list-installed <file>', help: 'image list of the stage installed (default: the one in --from)' },
    { usage: '--architecture <arch>', help: 'architecture of the nodes, as GOARCH names it (default: that of this machine)' },
    { usage: '--agent <files...>', help: 'executables for the nodes, one for each architecture (default: this one)' },
    {
      usage: '--registry-image <reference>',
      help: 'image in --from that serves the mirror (default: the listed image that contains distribution)',
    },
    {
      usage: '--signatures <choice>',
      help: 'if signatures that the release requires are missing: auto warns, require fails (default: auto)',
    },
    {
      usage: '--os-image <choice>',
      help: `operating system images in a store payload: ${OS_IMAGE_CHOICES.join(', ')} (default: depends on the release)`,
    },
    {
      usage: '--store-compression <choice>',
      help: `compression of store images: ${COMPRESSION_CHOICES.join(', ')}; auto: one that nodes of the release can mount (default: auto)`,
    },
    {
      usage: '--store-level <n>',
      help: 'compression level: gzip 1 to 9, zstd 1 to 22 (default: by measurement, see docs/factory-guide.md)',
    },
    { usage: '--skip-artifacts', help: 'leave out listed entries that are not container images, such as Helm charts, instead of failing' },
    { usage: '--work <dir>', help: 'work folder in which a store is unpacked (default: in the bundle)' },
    { usage: '--jobs <n>', help: 'copies and threads at a time, 1 to 64 (default: number of cores)' },
    quietFlag,
    dryRunFlag,
  ],
  forms: ['text', 'json'],
  examples: [
    'prestage-agent build --from images --to bundle',
    'prestage-agent build --from images --to bundle --list-installed ocp-images.txt',
    'prestage-agent build --from images --to bundle --payload store,oci',
  ],
  answer: answerBuild,
};

const EPOCH = 'SOURCE_DATE_EPOCH';
const given = v.pipe(v.string(), v.nonEmpty('is not given'));
const path = v.pipe(v.string(), v.nonEmpty('is empty'));
const jobs = v.pipe(
  v.string(),
  v.regex(/^[1-9]\d?$/, 'is not a number from 1 to 64'),
  v.transform(Number),
  v.maxValue(64, 'is not a number from 1 to 64'),
);
const level = v.pipe(
  v.string(),
  v.regex(/^[1-9]\d?$/, 'is not a number from 1 to 22'),
  v.transform(Number),
  v.maxValue(22, 'is not a number from 1 to 22'),
);
const payloads = v.pipe(
  v.string(),
  v.transform((text) => text.split(',').map((word) => word.trim())),
  v.array(v.picklist(PAYLOAD_KINDS, `must be one of ${PAYLOAD_KINDS.join(', ')}`)),
);
const schema = v.object({
  from: v.optional(given, ''),
  to: v.optional(given, ''),
  payload: v.optional(payloads, 'oci'),
  listDiscovery: v.exactOptional(path),
  listInstalled: v.exactOptional(path),
  architecture: v.exactOptional(v.pipe(v.string(), v.regex(/^[a-z0-9]+$/, 'is not a GOARCH name, such as amd64'))),
  agent: v.optional(v.array(path), []),
  registryImage: v.exactOptional(path),
  signatures: v.optional(v.picklist(['auto', 'require'], 'must be auto or require'), 'auto'),
  osImage: v.exactOptional(v.picklist(OS_IMAGE_CHOICES, `must be one of ${OS_IMAGE_CHOICES.join(', ')}`)),
  storeCompression: v.optional(v.picklist(COMPRESSION_CHOICES, `must be one of ${COMPRESSION_CHOICES.join(', ')}`), 'auto'),
  storeLevel: v.exactOptional(level),
  skipArtifacts: v.optional(v.boolean(), false),
  work: v.exactOptional(path),
  jobs: v.exactOptional(jobs),
  dryRun: v.optional(v.boolean(), false),
  /** Seconds since 1970, as far as a squashfs can store them. */
  sourceDateEpoch: v.exactOptional(
    v.pipe(
      v.string(),
      v.regex(/^\d{1,10}$/, 'is not a number of seconds'),
      v.transform(Number),
      v.maxValue(2 ** 32 - 1, 'is later than 2106'),
    ),
  ),
});

async function answerBuild(terminal: Terminal, options: Readonly<Record<string, unknown>>): Promise<Answer> {
  const epoch = terminal.env[EPOCH];
  const parsed = v.safeParse(schema, { ...options, ...(epoch !== undefined && epoch !== '' && { sourceDateEpoch: epoch }) });
  if (!parsed.success) {
    const faults = parsed.issues.map((issue) => `${settingOf(v.getDotPath(issue) ?? '')} ${issue.message}`);
    throw new PrestageError('ERR_USAGE', `build cannot start: ${faults.join('; ')}`, 'Run: prestage-agent build --help');
  }
  const host = hostFor(terminal, {});
  const {
    listDiscovery,
    listInstalled,
    payload,
    agent,
    dryRun,
    signatures,
    osImage,
    skipArtifacts,
    storeCompression,
    storeLevel,
    ...rest
  } = parsed.output;
  const report = await build(host, {
    ...rest,
    lists: {
      ...(listDiscovery !== undefined && { discovery: listDiscovery }),
      ...(listInstalled !== undefined && { installed: listInstalled }),
    },
    payloads: payload,
    ...(osImage !== undefined && { osImages: osImage }),
    compression: storeCompression,
    ...(storeLevel !== undefined && { compressionLevel: storeLevel }),
    skipsArtifacts: skipArtifacts,
    requiresSignatures: signatures === 'require',
    agents: agent,
    architecture: rest.architecture ?? host.architecture,
    jobs: rest.jobs ?? availableParallelism(),
    isDry: dryRun,
    act: actFor(terminal, host),
    signal: terminal.stop,
    say: (text) => host.log('info', text),
  });
  const content = report.outcome === 'planned' ? undefined : contentOf((await readBundle(report.bundle)).bundle);
  const data = { apiVersion: 'prestage-agent/v1', kind: 'Build', ...report, ...(content && { content }) };
  return { data, text: buildText(report, content), exitCode: 0 };
}

/** What a bundle contains, and the pins of its executables. */
export interface BuiltContent extends Pick<BundleFacts, 'files' | 'bytes' | 'images' | 'stages' | 'payloads'> {
  readonly executables: readonly { readonly path: string; readonly sha256: string }[];
}

/** Pure. */
export function contentOf(bundle: Bundle): BuiltContent {
  const { files, bytes, images, stages, payloads } = bundleFacts(bundle);
  const executables = bundle.files.filter(({ path }) => /^(?:bin\/)?prestage-agent(?:-linux-[a-z0-9]+)?$/.test(path));
  return { files, bytes, images, stages, payloads, executables: executables.map(({ path, sha256 }) => ({ path, sha256 })) };
}

/** The date of a build comes from the environment. */
function settingOf(path: string): string {
  return path === 'sourceDateEpoch' ? EPOCH : flagOf(path);
}

/** The result or the plan of a build, as text for people. Pure. */
export function buildText(report: BuildReport, content?: BuiltContent): string {
  const { outcome, bundle, parts, osImages, compression, manifestSha256 } = report;
  const lines = parts.map(({ id, state, outputBytes, workBytes }) => {
    const work = workBytes === 0 ? '' : `, ${formatBytes(workBytes)} of work space`;
    return state === 'keep' ? `keep    ${id}` : `make    ${id} (about ${formatBytes(outputBytes)}${work})`;
  });
  const packing = compression === undefined ? [] : [`store images: ${compressionText(compression)} (${compression.reason})`];
  const choices = [...packing, ...(osImages === undefined ? [] : [systemsText(osImages)])];
  if (outcome === 'planned') return [...lines, ...choices, 'nothing was written'].join('\n');
  const end = [
    ...(content === undefined ? [] : contentLines(content)),
    ...(manifestSha256 === undefined ? [] : [`sha256 of prestage.json, for ignition: ${manifestSha256}`]),
    `next: prestage-agent partition write ${bundle} DEVICE`,
  ];
  if (outcome === 'unchanged') return [`unchanged: ${bundle} is up to date`, ...end].join('\n');
  const made = parts.filter(({ state }) => state === 'make').map(({ id }) => id);
  return [`built: ${bundle} (made ${made.join(', ') || 'only the manifest'})`, ...choices, ...end].join('\n');
}

function contentLines({ files, bytes, images, stages, payloads, executables }: BuiltContent): readonly string[] {
  const shares = stages.map(({ stage, images: count }) => `${stage} ${count}`);
  return [
    `images: ${images}${shares.length === 0 ? '' : ` (${shares.join(', ')})`}`,
    ...payloads.map((payload) => `payload ${payloadText(payload)}`),
    `in all: ${formatBytes(bytes)} in ${numberOf(files, 'file')}`,
    ...executables.map(({ path, sha256 }) => `sha256 of ${path}, for ignition: ${sha256}`),
  ];
}

const SYSTEMS_TEXT: Readonly<Record<OsImageChoice, string>> = {
  serve: 'served complete beside the store',
  store: 'in the store only',
  both: 'served complete and in the store',
  omit: 'left out of the bundle',
};

function systemsText({ choice, reason, references, layerBytes }: OsImagePlan): string {
  return `operating system: ${SYSTEMS_TEXT[choice]}, ${formatBytes(layerBytes)} of layers (${reason}): ${references.join(', ')}`;
}
