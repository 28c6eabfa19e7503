import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import * as v from 'valibot';
import { formatBytes, formatDuration, formatRate, numberOf } from '../model/bytes.ts';
import { ALL_SUBJECTS, causeLines, causesOf, type Fault, SHOWN_SUBJECTS } from '../model/causes.ts';
import { exitCodes, PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';
import { acceptingPolicy, openshiftPolicy } from '../signatures/openshift.ts';
import { type Policy, parsePolicy } from '../signatures/policy.ts';
import { type VerifyProgress, type VerifyReport, verify } from '../verify/verify.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor, progressStream, type Terminal } from './context.ts';
import { flagOf } from './flag-of.ts';
import { stopSignal } from './interrupt.ts';
import { type Answer, OUTPUT_FORMS, type Paint, painter } from './output.ts';
import { requireRootToMount } from './require-root.ts';
import { allFlag, quietFlag } from './setting-flags.ts';
import { showTotals } from './show-totals.ts';

/**
 * `prestage-agent verify`: checks a bundle against its manifest. Full is the default, because disks and copies can damage a file without
 * changing its size; quick has to be requested.
 */
export const verifyCommand: CommandSpec = {
  name: 'verify',
  summary: 'Verify a bundle, and list every fault',
  description:
    'Verify a bundle, a folder of archives, an OCI layout or oc-mirror archives: in a folder, on a device, or in a disk image. Changes nothing. Lists every fault with its file and a remedy.',
  arguments: [{ usage: '<path>', help: 'folder, block device, or image of a disk or of a file system' }],
  flags: [
    { usage: '--full', help: 'read every byte: hashes, digests, complete archives, hash trees, names in store images (default)' },
    { usage: '--quick', help: 'read only the structure: bundle manifest, sizes, image manifests, lists' },
    { usage: '--bundle-sha256 <hex>', help: 'sha256 that prestage.json must have' },
    { usage: '--label <name>', help: 'GPT label of the partition on a disk (default: data)' },
    { usage: '--parallel <n>', help: 'threads, 1 to 64 (default: number of cores)' },
    {
      usage: '--architecture <name>',
      help: 'architecture of the nodes: amd64, arm64… (default: that of the bundle, or of this machine for folders without prestage.json)',
    },
    { usage: '--policy <file>', help: 'policy.json file: list the images that a node with this policy refuses, and why' },
    { usage: '--openshift <version>', help: 'the same with the default policy of this OpenShift release' },
    quietFlag,
    allFlag,
  ],
  forms: OUTPUT_FORMS,
  examples: [
    'prestage-agent verify /mnt/data',
    'prestage-agent verify /dev/nvme0n1 --quick',
    'prestage-agent verify disk.img --output json',
    'prestage-agent verify bundle --quick --openshift 4.22',
  ],
  answer: answerVerify,
};

const optionsSchema = v.object({
  path: v.string('is missing'),
  full: v.optional(v.boolean(), false),
  quick: v.optional(v.boolean(), false),
  bundleSha256: v.exactOptional(v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'is not 64 lower-case hex digits'))),
  label: v.optional(v.pipe(v.string(), v.nonEmpty('is empty')), 'data'),
  parallel: v.exactOptional(
    v.pipe(
      v.string(),
      v.regex(/^\d{1,3}$/, 'is not a whole number'),
      v.toNumber(),
      v.minValue(1, 'is less than 1'),
      v.maxValue(64, 'is more than 64'),
    ),
  ),
  architecture: v.exactOptional(v.pipe(v.string(), v.regex(/^[a-z0-9]{1,16}$/, 'is not a GOARCH name'))),
  policy: v.exactOptional(v.pipe(v.string(), v.nonEmpty('is empty'))),
  openshift: v.exactOptional(v.pipe(v.string(), v.regex(/^\d+\.\d+/, 'is not a release, such as 4.22.1'))),
});

async function answerVerify(terminal: Terminal, options: Readonly<Record<string, unknown>>, args: readonly string[]): Promise<Answer> {
  const parsed = v.safeParse(optionsSchema, { ...options, path: args[0] });
  if (!parsed.success) {
    const faults = parsed.issues.map((issue) => {
      const name = v.getDotPath(issue) ?? '';
      return `${name === 'path' ? 'the path' : flagOf(name)} ${issue.message}`;
    });
    throw new PrestageError('ERR_USAGE', `verify cannot start: ${faults.join('; ')}`, 'Run: prestage-agent verify --help');
  }
  const { path, full, quick, bundleSha256, label, parallel, architecture } = parsed.output;
  if (full && quick) throw new PrestageError('ERR_USAGE', '--quick and --full cannot be combined', 'Use only one of them');
  const host = hostFor(terminal, {});
  await requireRootToMount(host, 'verify', path);
  const policy = await wantedPolicy(parsed.output);
  const startMs = host.clock.monotonicMs();
  let progress: VerifyProgress = { bytes: 0, totalBytes: 0 };
  const describe = (): string => {
    const elapsedMs = host.clock.monotonicMs() - startMs;
    return `verifying: ${formatBytes(progress.bytes)} of ${formatBytes(progress.totalBytes)}, ${formatRate((progress.bytes * 1000) / elapsedMs)}`;
  };
  using _display = showTotals(host, progressStream(terminal), describe);
  const report = await verify(host, {
    path,
    mode: quick ? 'quick' : 'full',
    label,
    parallel: parallel ?? host.cores,
    architecture,
    bundleSha256,
    policy,
    signal: stopSignal(terminal, 'Run the command again'),
    onProgress: (next) => {
      progress = next;
    },
  });
  const durationMs = Math.round(host.clock.monotonicMs() - startMs);
  return {
    data: { apiVersion: 'prestage-agent/v1', kind: 'VerifyReport', ...report, durationMs },
    text: verifyText(report, { durationMs, all: options.all === true }, painter(terminal)),
    exitCode: !report.isSound ? exitCodes.payload : (report.policy?.refused.length ?? 0) > 0 ? exitCodes.unsigned : 0,
  };
}

/** @throws PrestageError ERR_USAGE, ERR_POLICY_FILE */
async function wantedPolicy({ policy, openshift }: v.InferOutput<typeof optionsSchema>): Promise<Policy | undefined> {
  if (policy !== undefined && openshift !== undefined)
    throw new PrestageError('ERR_USAGE', '--policy and --openshift cannot be combined', 'Use only one of them');
  if (openshift !== undefined) return openshiftPolicy(openshift) ?? acceptingPolicy(`the policy of OpenShift ${openshift}`);
  if (policy === undefined) return undefined;
  const content = await readFile(policy, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError('ERR_POLICY_FILE', `${policy} cannot be read: ${reasonOf(cause)}`, 'Give the path of a policy.json', { cause });
  });
  return parsePolicy(content, policy);
}

/** Most refused names that are shown; `--output json` has them all. */
const SHOWN_REFUSALS = 20;

/** The verdict of a policy on the images, with one line for each refused name. Pure. */
function policyLines({ policy }: VerifyReport, paint: Paint): readonly string[] {
  if (policy === undefined) return [];
  const { accepted, refused } = policy;
  const shown = refused.slice(0, SHOWN_REFUSALS);
  const width = Math.max(0, ...shown.map(({ stage }) => stage.length));
  return [
    `policy:   ${policy.policy}: ${accepted} of ${accepted + refused.length} names are accepted`,
    ...shown.flatMap(({ stage, name, scope, reason }) => [
      `  ${paint('bad', stage.padEnd(width))} ${name}`,
      `      ${scope || 'all registries'}: ${reason}`,
    ]),
    ...(refused.length > shown.length ? [`  … and ${refused.length - shown.length} more: --output json has them all`] : []),
    ...(refused.length > 0
      ? ['      next: Pull with the signatures from a source that has them: prestage-agent pull --signatures require']
      : []),
  ];
}

const KINDS: Readonly<Record<VerifyReport['what'], string>> = {
  bundle: 'bundle',
  archives: 'folder of archives without prestage.json',
  oci: 'OCI layout without prestage.json',
  'oc-mirror': 'oc-mirror archives',
};

/** The report for people. Pure. */
export function verifyText(
  report: VerifyReport,
  { durationMs, all }: { readonly durationMs: number; readonly all: boolean },
  paint: Paint,
): string {
  const { faults } = report;
  const images = Object.entries(report.images).map(([stage, count]) => `${count} ${stage}`);
  const place = report.device === undefined ? report.path : `${report.path} (${report.source}, mounted from ${report.device})`;
  const what = [
    KINDS[report.what],
    ...(report.release === undefined || report.release === '' ? [] : [report.release]),
    report.architecture,
    ...(report.payloads.length === 0 ? [] : [`payloads ${report.payloads.join(', ')}`]),
  ];
  const count = numberOf(faults.length, 'fault');
  const read = report.mode === 'full' ? 'every byte read' : 'quick: structure and sizes only';
  return [
    `${paint(report.isSound ? 'good' : 'bad', report.isSound ? 'sound' : `faulty: ${count}`)} (${read}, ${formatDuration(durationMs)})`,
    `path:     ${place}`,
    `what:     ${what.join(', ')}`,
    `content:  ${numberOf(report.files, 'file')}, ${formatBytes(report.bytes)}${images.length === 0 ? '' : `; images: ${images.join(', ')}`}`,
    ...(report.bundleSha256 === undefined ? [] : [`manifest: sha256 ${report.bundleSha256}`]),
    ...(report.stores ?? []).map(({ stage, image, compression }) => `store:    ${stage}: ${image}, compression ${compression}`),
    ...policyLines(report, paint),
    ...report.notices.map((notice) => `notice:   ${notice}`),
    ...faultLines(faults, all, paint),
  ].join('\n');
}

/** The faults by code and folder; a single one by its file. */
function faultLines(faults: VerifyReport['faults'], all: boolean, paint: Paint): readonly string[] {
  const found = faults.map((fault): Fault => ({ ...fault, state: 'faulty', subject: fault.path, place: `in ${dirname(fault.path)}` }));
  const causes = all ? found.flatMap((fault) => causesOf([fault])) : causesOf(found);
  return causes.flatMap((cause) => {
    if (cause.faults.length > 1) return causeLines(cause, { most: SHOWN_SUBJECTS, more: ALL_SUBJECTS });
    return cause.faults.flatMap(({ subject, message, code, remedy }) => [
      `  ${paint('bad', subject)}: ${message.replaceAll('\n', '\n      ')}`,
      `      ${code}; next: ${remedy}`,
    ]);
  });
}
