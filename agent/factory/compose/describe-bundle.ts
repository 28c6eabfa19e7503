import { BUNDLE_VERSION, type Bundle, type BundlePayload } from '../../model/bundle.ts';
import type { Digest } from '../../model/digest.ts';
import type { Stage } from '../../model/stage.ts';
import { bundleImage, releaseOf } from './describe-images.ts';
import { isOperatingSystem } from './os-images.ts';
import { type BuildFacts, type Part, SERVING_STAGE } from './plan.ts';
import type { RecordedPart } from './record.ts';
import type { NamedImage } from './source-image.ts';

export interface DescribeOptions {
  readonly parts: readonly Part[];
  /** By the name of the part. */
  readonly made: Readonly<Record<string, RecordedPart>>;
  /** Unpacked sizes of all layers. */
  readonly unpackedBytes: ReadonlyMap<Digest, number>;
  readonly createdAt: Date;
  readonly createdBy: Bundle['createdBy'];
}

/** The manifest of a bundle without its files. Pure. */
export function describeBundle(facts: BuildFacts, options: DescribeOptions): Omit<Bundle, 'files'> {
  // A store and archives have no place for them.
  const hasAttachments = facts.payloads.some((kind) => kind === 'oci' || kind === 'registry');
  const described = ({ attached, ...image }: NamedImage): NamedImage => ({ ...image, ...(hasAttachments && attached && { attached }) });
  const stages = facts.stages.map(
    ({ stage, images }) => [stage, { images: images.map((image) => bundleImage(described(image), options.unpackedBytes)) }] as const,
  );
  return {
    apiVersion: BUNDLE_VERSION,
    kind: 'Bundle',
    release: releaseOf(facts.stages.flatMap((one) => one.images)),
    architecture: facts.architecture,
    createdAt: options.createdAt.toISOString().replace(/\.\d{3}Z$/, 'Z'),
    createdBy: options.createdBy,
    stages: Object.fromEntries(stages),
    payloads: options.parts.flatMap((part) => payloadsOf(part, options.made[part.id], facts)),
    ...(facts.releaseSignatures.length > 0 && { releaseSignatures: [...facts.releaseSignatures] }),
  };
}

/** The fields about operating systems in a stage's payload; the metadata tree does not serve them. */
function systemsOf({ images, served: besides = [], paths: [, , , tree] }: Part, stage: Stage) {
  const served = stage === SERVING_STAGE ? besides : [];
  const osTree = stage === SERVING_STAGE ? tree : undefined;
  const stored = images.filter(isOperatingSystem).map(({ reference }) => reference);
  const unstored = served.flatMap(({ reference }) => (stored.includes(reference) ? [] : [reference]));
  return {
    ...(stored.length + unstored.length > 0 && { unmirrored: [...stored, ...unstored] }),
    ...(osTree !== undefined && { osTree }),
    ...(unstored.length > 0 && { unstored }),
  };
}

function payloadsOf(
  part: Part,
  made: RecordedPart | undefined,
  { compression: { algorithm, level } }: BuildFacts,
): readonly BundlePayload[] {
  const { kind, stages = [], paths } = part;
  const [first = '', hashTree = '', mirror = ''] = paths;
  if (kind === 'agent' || kind === 'signatures') return [];
  const registryImage = made?.registryImage === undefined ? {} : { registryImage: made.registryImage };
  if (kind === 'registry') return [{ kind, path: first, ...registryImage }];
  if (kind !== 'store') return [{ kind, path: first }];
  if (made?.rootHash === undefined) return [];
  const pieces = made.files.find((file) => file.path === first)?.pieces;
  const compression = { algorithm, ...(level !== undefined && { level }) };
  const image = { image: first, compression, ...(pieces !== undefined && { pieces }) };
  const store = { ...image, verity: { hashTree, rootHash: made.rootHash }, mirror, ...registryImage };
  return stages.map((stage) => ({ kind, stage, ...store, ...systemsOf(part, stage) }));
}
