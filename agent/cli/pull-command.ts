import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import * as v from 'valibot';
import { isLookaside } from '../factory/pull/lookaside-finder.ts';
import { pull } from '../factory/pull/pull.ts';
import type { PulledImage, PullReport } from '../factory/pull/report.ts';
import { PULL_FORMATS, SIGNATURE_CHOICES } from '../factory/pull/request.ts';
import { formatBytes, formatDuration } from '../model/bytes.ts';
import { faultText, fromRegistry } from '../model/causes.ts';
import { exitCodeOf, exitCodes, PrestageError } from '../model/errors.ts';
import { inWords } from '../model/faults.ts';
import { type ListText, parseImageLists } from '../model/image-list.ts';
import { STAGES } from '../model/stage.ts';
import { reasonOf } from '../model/system-error.ts';
import type { CommandSpec } from './command-spec.ts';
import { actFor, hostFor, progressStream, type Terminal } from './context.ts';
import { credsFlag, loginFile } from './creds.ts';
import { flagOf } from './flag-of.ts';
import type { Answer } from './output.ts';
import { allFlag, quietFlag } from './setting-flags.ts';
import { showPull } from './show-pull.ts';

/** `prestage-agent pull`: downloads the images of lists into one folder. */
export const pullCommand: CommandSpec = {
  name: 'pull',
  summary: 'Pull the images of lists into a folder',
  description:
    'Pull the images of lists into one OCI image layout, or into one archive per image. Complete files are kept: after a failure, pull again.',
  flags: [
    { usage: '--list <file...>', help: 'image lists, read as one; - is standard input' },
    { usage: '--to <dir>', help: 'folder to pull into' },
    { usage: '--format <format>', help: `${PULL_FORMATS.join(' or ')} (default: oci)` },
    { usage: '--stage <stage>', help: 'keep the lists as the list of this stage (default: under their own names)' },
    {
      usage: '--signatures <choice>',
      help: 'auto: pull existing signatures; require: fail images without a signature; none (default: auto; archives: none)',
    },
    { usage: '--lookaside <url>', help: 'location of GPG signatures, https:// or file:// (default: from registries.d of this machine)' },
    {
      usage: '--release-signatures <url|dir>',
      help: 'also pull release signatures, which a cluster needs for an upgrade, from a store of files sha256=HEX/signature-N',
    },
    {
      usage: '--attachments',
      help: 'also pull attestations, SBOMs and referrers (cosign bundles) of each image',
    },
    { usage: '--skip-artifacts', help: 'leave out entries that are not container images, such as Helm charts, instead of failing' },
    { usage: '--parallel <n>', help: 'images at a time, 1 to 16 (default: 4)' },
    { usage: '--retries <n>', help: 'further attempts after a network or registry failure, 0 to 20 (default: 5)' },
    { usage: '--stall-timeout <seconds>', help: 'end an attempt that receives nothing for this long, 5 to 3600 (default: 120)' },
    { usage: '--authfile <file>', help: 'credentials for registries (default: those of skopeo login)' },
    credsFlag,
    { usage: '--ca <file>', help: 'certificate to trust (PEM)' },
    { usage: '--cert-dir <dir>', help: 'certificates to trust (*.crt) and client certificates (*.cert, *.key)' },
    { usage: '--proxy <url>', help: 'proxy for registries (default: HTTPS_PROXY and HTTP_PROXY)' },
    { usage: '--tls-verify', help: 'check the certificate (default); --tls-verify=false is --no-tls-verify' },
    { usage: '--no-tls-verify', help: 'accept any certificate, or plain HTTP' },
    quietFlag,
    allFlag,
    { usage: '--dry-run', help: 'ask the registries, print what would be pulled with sizes, and write nothing' },
  ],
  forms: ['text', 'json'],
  examples: [
    'prestage-agent pull --list ai-images.txt ocp-images.txt --to /srv/4.14.0',
    'prestage-agent pull --list ocp-images.txt --to /srv/archives --format archives --authfile pull-secret.json',
  ],
  answer: answerPull,
};

const whole = (least: number, most: number) =>
  v.pipe(
    v.string(),
    v.regex(/^\d{1,6}$/, 'is not a whole number'),
    v.transform(Number),
    v.minValue(least, `is less than ${least}`),
    v.maxValue(most, `is more than ${most}`),
  );

const optionsSchema = v.pipe(
  v.object({
    list: v.array(v.string(), 'is needed'),
    to: v.pipe(v.string('is needed'), v.nonEmpty('is empty')),
    format: v.optional(v.picklist(PULL_FORMATS, `must be ${PULL_FORMATS.join(' or ')}`), 'oci'),
    signatures: v.exactOptional(v.picklist(SIGNATURE_CHOICES, `must be one of ${SIGNATURE_CHOICES.join(', ')}`)),
    releaseSignatures: v.exactOptional(v.pipe(v.string(), v.nonEmpty('is empty'))),
    lookaside: v.exactOptional(v.pipe(v.string(), v.check(isLookaside, 'is not an address that begins with https://, http:// or file://'))),
    attachments: v.optional(v.boolean(), false),
    skipArtifacts: v.optional(v.boolean(), false),
    stage: v.exactOptional(v.picklist(STAGES, `must be ${STAGES.join(' or ')}`)),
    // Measured with 24 images from a registry on loopback (test/bench/pull.ts); over a network, more connections hide the latency.
    parallel: v.optional(whole(1, 16), '4'),
    retries: v.optional(whole(0, 20), '5'),
    stallTimeout: v.optional(whole(5, 3600), '120'),
    authfile: v.exactOptional(v.string()),
    creds: v.exactOptional(v.string()),
    ca: v.exactOptional(v.string()),
    certDir: v.exactOptional(v.string()),
    proxy: v.exactOptional(v.pipe(v.string(), v.url('is not a URL'))),
    tlsVerify: v.optional(v.boolean(), true),
    dryRun: v.optional(v.boolean(), false),
  }),
  v.check(({ authfile, creds }) => authfile === undefined || creds === undefined, '--authfile and --creds exclude each other'),
  v.check(({ ca, certDir }) => ca === undefined || certDir === undefined, '--ca and --cert-dir cannot be combined'),
  v.check(
    ({ signatures, format }) => format === 'oci' || signatures === undefined || signatures === 'none',
    '--signatures requires --format oci: archives cannot hold signatures',
  ),
  v.check(
    ({ lookaside, signatures, format }) => lookaside === undefined || (format === 'oci' && signatures !== 'none'),
    '--lookaside requires --format oci and signatures',
  ),
  v.check(
    ({ releaseSignatures, format }) => releaseSignatures === undefined || format === 'oci',
    '--release-signatures requires --format oci',
  ),
  v.check(
    ({ attachments, format }) => format === 'oci' || !attachments,
    '--attachments requires --format oci: archives cannot hold attachments',
  ),
);

async function answerPull(terminal: Terminal, given: Readonly<Record<string, unknown>>): Promise<Answer> {
  const options = parseOptions(given);
  const host = hostFor(terminal, {});
  const { authfile, creds, ca, certDir, proxy, tlsVerify, stage } = options;
  const startMs = host.clock.monotonicMs();
  const lists = await Promise.all(options.list.map(readList));
  await using login =
    creds === undefined
      ? undefined
      : await loginFile(
          terminal,
          creds,
          parseImageLists(lists).images.map(({ text: spec }) => spec),
        );
  const authFile = authfile ?? login?.file;
  using display = showPull(host, progressStream(terminal));
  const report = await pull(host, {
    lists,
    to: options.to,
    format: options.format,
    ...(stage && { stage }),
    signatures: options.signatures ?? (options.format === 'oci' ? 'auto' : 'none'),
    ...(options.lookaside && { lookaside: options.lookaside }),
    ...(options.releaseSignatures && { releaseSignatures: options.releaseSignatures }),
    source: {
      ...(authFile && { authFile }),
      ...(ca && { caFile: ca }),
      ...(certDir && { certDir }),
      ...(proxy && { proxy }),
      tlsVerify,
    },
    attachments: options.attachments,
    skipsArtifacts: options.skipArtifacts,
    parallel: options.parallel,
    retries: options.retries,
    stallMs: options.stallTimeout * 1000,
    isDry: options.dryRun,
    act: actFor(terminal, host),
    stop: terminal.stop,
    onEvent: display.onEvent,
  });
  const durationMs = Math.round(host.clock.monotonicMs() - startMs);
  const head = { apiVersion: 'prestage-agent/v1', kind: options.dryRun ? 'PullPlan' : 'Pull', to: options.to, format: options.format };
  return {
    data: { ...head, ...report, durationMs },
    text: pullText(report, durationMs, given.all === true),
    exitCode: exitCodeOfPull(report),
  };
}

function parseOptions(given: Readonly<Record<string, unknown>>) {
  const parsed = v.safeParse(optionsSchema, given);
  if (parsed.success) return parsed.output;
  const faults = parsed.issues.map((issue) => {
    const path = v.getDotPath(issue);
    return path === null ? issue.message : `${flagOf(path)} ${inWords(issue)}`;
  });
  throw new PrestageError('ERR_USAGE', `pull cannot start: ${faults.join('; ')}`, 'Run: prestage-agent pull --help');
}

async function readList(path: string): Promise<ListText> {
  try {
    return { text: path === '-' ? await text(process.stdin) : await readFile(path, 'utf8'), where: path };
  } catch (cause) {
    throw new PrestageError('ERR_LIST', `${path} cannot be read: ${reasonOf(cause)}`, 'Give the path of an image list with --list', {
      cause,
    });
  }
}

function exitCodeOfPull({ outcome, error }: PullReport): number {
  if (error !== undefined) return exitCodeOf(error.code);
  return outcome === 'complete' || outcome === 'planned' ? 0 : exitCodes[outcome];
}

/** The result of a pull, or its plan, as text for people. Pure. */
export function pullText(report: PullReport, durationMs: number, all: boolean): string {
  const { outcome, images, fetchBytes, keptBytes, error } = report;
  if (outcome === 'planned') {
    return [
      ...images.flatMap((image) => (image.error === undefined || image.state === 'left-out' ? [planLine(image)] : [])),
      ...faultLines(images, all),
      `${images.length} images: ${formatBytes(fetchBytes)} to fetch, ${formatBytes(keptBytes)} already present`,
      ...(error === undefined ? [] : [`would not start: ${error.message}`, `  ${error.code}; next: ${error.remedy}`]),
      'nothing was written',
    ].join('\n');
  }
  const counts = Object.entries(Object.groupBy(images, ({ state }) => state)).map(([state, some]) => `${some.length} ${state}`);
  const stopped = images.find((image) => image.error?.code === 'ERR_INTERRUPTED')?.error;
  const next = outcome === 'interrupted' ? `; next: ${stopped?.remedy ?? 'Pull again: it continues'}` : '';
  return [
    `${outcome}: ${counts.join(', ')} in ${formatDuration(durationMs)}; ${formatBytes(fetchBytes)} were missing, ${formatBytes(keptBytes)} already present${next}`,
    ...images.flatMap(({ state, error: why, reference }) => (state === 'left-out' ? [`  ${state} ${why?.message ?? reference}`] : [])),
    ...faultLines(images, all),
    ...attachmentLines(images),
    ...absentLines(images),
    ...signatureLines(images),
  ].join('\n');
}

function attachmentLines(images: readonly PulledImage[]): readonly string[] {
  const attached = images.flatMap((image) => image.attached ?? []);
  const having = images.filter((image) => (image.attached ?? []).length > 0);
  return attached.length === 0 ? [] : [`${attached.length} attachments of ${having.length} images`];
}

/** Platforms that were left out when a mirror was filled: nodes of these platforms need another source. */
function absentLines(images: readonly PulledImage[]): readonly string[] {
  const some = images.flatMap(({ reference, absent = [] }) => absent.map(({ digest, platform }) => ({ reference, digest, platform })));
  const [first] = some;
  if (first === undefined) return [];
  const of = new Set(some.map(({ reference }) => reference)).size;
  return [
    `notice: the registry lacks ${some.length} manifests that the manifest lists of ${of} images name; first: ${first.platform || 'one without a platform'} (${first.digest}) of ${first.reference}`,
    '  next: If nodes of these platforms exist, pull from a source that has the manifests',
  ];
}

/** Images that nodes of current releases would refuse are reported here, where the cause can still be removed. */
function signatureLines(images: readonly PulledImage[]): readonly string[] {
  const lacking = images.filter(({ lacksSignature }) => lacksSignature);
  const [first] = lacking;
  if (first === undefined) return [];
  return [
    `warning: ${lacking.length} of ${images.length} images have no signature, but OpenShift 4.21 and later require one; first: ${first.reference}`,
    '  next: Pull them from a source that has their signatures; otherwise nodes pull these images from the source registry',
  ];
}

function planLine(image: PulledImage): string {
  if (image.state === 'left-out') return `leave   ${image.reference}: ${image.error?.message}`;
  if (image.state === 'kept') return `keep    ${image.reference}`;
  return `fetch   ${image.reference} (${formatBytes(image.fetchBytes ?? 0)} of ${formatBytes(image.sizeBytes ?? 0)})`;
}

/** The images that were not pulled, by cause. That the pull was interrupted is told by its first line. */
function faultLines(images: readonly PulledImage[], all: boolean): readonly string[] {
  const isFault = ({ state, error }: PulledImage): boolean =>
    state !== 'left-out' && error?.code !== 'ERR_INTERRUPTED' && (error !== undefined || state === 'skipped');
  return faultText(
    images.filter(isFault).map(({ reference, state, error }) => ({
      state,
      subject: reference,
      place: fromRegistry(reference),
      message: error?.message ?? '',
      ...(error && { code: error.code, remedy: error.remedy }),
    })),
    all,
  );
}
