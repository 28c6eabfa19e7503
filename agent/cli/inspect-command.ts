import { readdir } from 'node:fs/promises';
import { type BundleFacts, bundleFacts, type PayloadFacts } from '../bundle/bundle-facts.ts';
import { readBundle, type SealedBundle, sealOf } from '../bundle/read-bundle.ts';
import { BUNDLE_FILE } from '../model/bundle.ts';
import { formatBytes, numberOf } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import { type OpenFolder, openPath } from '../partition/open-path.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor, type Terminal } from './context.ts';
import { type Answer, OUTPUT_FORMS } from './output.ts';

/** `prestage-agent inspect`: what a bundle contains, by its manifest alone. */
export const inspectCommand: CommandSpec = {
  name: 'inspect',
  summary: 'Show what a bundle contains',
  description:
    'Show what a bundle contains: release, architecture, stages, payloads, sizes, signatures, and the pin for ignition. Reads only prestage.json; verify checks the files.',
  arguments: [{ usage: '<bundle>', help: 'folder, block device, or image of a disk or of a file system' }],
  flags: [{ usage: '--label <name>', help: 'GPT label of the partition on a disk (default: data)' }],
  forms: OUTPUT_FORMS,
  examples: ['prestage-agent inspect bundle', 'prestage-agent inspect /dev/nvme0n1', 'prestage-agent inspect data.iso --output json'],
  answer: async (terminal, options, args) => await answerInspect(terminal, args[0] ?? '', options.label),
};

async function answerInspect(terminal: Terminal, path: string, label: unknown): Promise<Answer> {
  await using opened = await openPath(hostFor(terminal, {}), path, typeof label === 'string' ? label : 'data');
  if ((await sealOf(opened.path)) === 'none') throw noBundle(path, await readdir(opened.path));
  const sealed = await readBundle(opened.path);
  const { bundle, sha256 } = sealed;
  const facts = bundleFacts(bundle);
  const { release, architecture, createdAt, createdBy } = bundle;
  const place = { path, source: opened.kind, ...(opened.device !== undefined && { device: opened.device }) };
  const head = { apiVersion: 'prestage-agent/v1', kind: 'BundleFacts', ...place, bundleSha256: sha256 };
  return {
    data: { ...head, release, architecture, createdAt, createdBy, ...facts },
    text: inspectText(path, opened, sealed, facts),
    exitCode: 0,
  };
}

function noBundle(path: string, names: readonly string[]): PrestageError {
  const isPulled = names.includes('oci-layout');
  return new PrestageError(
    'ERR_PAYLOAD_MISSING',
    isPulled ? `${path} is a folder that pull filled, not a bundle` : `${path} has no ${BUNDLE_FILE}, so it is not a bundle`,
    isPulled
      ? `Make a bundle of it: prestage-agent build --from ${path} --to bundle`
      : 'Name the folder of a bundle, or a device or disk image that holds one',
  );
}

/** The content of a bundle for people. Pure. */
export function inspectText(path: string, opened: Pick<OpenFolder, 'kind' | 'device'>, sealed: SealedBundle, facts: BundleFacts): string {
  const { bundle, sha256 } = sealed;
  const place = opened.device === undefined ? path : `${path} (${opened.kind}, mounted from ${opened.device})`;
  return [
    `bundle:      ${place}`,
    `release:     ${bundle.release || 'not recorded'}, for ${bundle.architecture}`,
    `built:       ${bundle.createdAt}, by ${bundle.createdBy.name} ${bundle.createdBy.version}`,
    `content:     ${numberOf(facts.files, 'file')}, ${formatBytes(facts.bytes)}`,
    ...headed('stages', facts.stages.map(stageText)),
    ...headed('payloads', facts.payloads.map(payloadText)),
    ...headed('signatures', [signatureText(facts)]),
    ...(facts.attachments === 0
      ? []
      : headed('attached', [numberOf(facts.attachments, 'attestation, SBOM or referrer', 'attestations, SBOMs and referrers')])),
    ...headed(
      'absent',
      facts.absent.map(({ platform, images }) => `${platform || 'manifests without a platform'}, in ${numberOf(images, 'image')}`),
    ),
    'pin, for ignition --bundle-sha256:',
    `  ${sha256}`,
  ].join('\n');
}

function headed(name: string, lines: readonly string[]): readonly string[] {
  const shown = lines.length === 0 ? ['none'] : lines;
  return shown.map((line, index) => `${(index === 0 ? `${name}:` : '').padEnd(13)}${line}`);
}

function stageText({ stage, images, compressedBytes, unpackedBytes }: BundleFacts['stages'][number]): string {
  return `${stage}: ${numberOf(images, 'image')}, ${formatBytes(compressedBytes)} packed, ${formatBytes(unpackedBytes)} unpacked`;
}

/** A payload with its size: `oci: 5.6 MiB in 30 files`. Pure. */
export function payloadText({ kind, stage, files, bytes, compression }: PayloadFacts): string {
  const name = stage === undefined ? kind : `${kind} (${stage})`;
  return `${name}: ${formatBytes(bytes)} in ${numberOf(files, 'file')}${compression === undefined ? '' : `, compression ${compression}`}`;
}

function signatureText({ images, signatures }: BundleFacts): string {
  const { sigstore, gpg, signedImages, releases } = signatures;
  const ofReleases = releases === 0 ? '' : `; release signatures: ${releases}`;
  return `${signedImages} of ${numberOf(images, 'image')} signed (${sigstore} sigstore, ${gpg} GPG)${ofReleases}`;
}
