import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import pLimit from 'p-limit';
import { layoutList } from '../../extract/oci-layout.ts';
import type { ReleaseSignature } from '../../model/bundle.ts';
import { type Digest, isDigest } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { findAgents } from './agents.ts';
import { releaseOf, stampOf } from './describe-images.ts';
import { artifactsError, type BuildInput, type ImageSource, type InputImage } from './input.ts';
import { isOperatingSystem, type OsImageChoice, planOsImages } from './os-images.ts';
import { type AgentFile, type BuildFacts, keyOf, type PayloadKind } from './plan.ts';
import type { BuildRecord } from './record.ts';
import { readComponents, withComponents } from './release-components.ts';
import { readSourceAttached } from './source-attached.ts';
import { layersOf, type NamedImage, readSourceImage } from './source-image.ts';
import { readSourceSignatures } from './source-signatures.ts';
import { type CompressionChoice, planCompression } from './store-compression.ts';
import { estimateUnpacked } from './unpacked-sizes.ts';

export interface FactOptions {
  readonly architecture: string;
  readonly payloads: readonly PayloadKind[];
  readonly agents: readonly string[];
  /** How operating systems are handled; by the release if left out. */
  readonly osImages?: OsImageChoice;
  /** Of store images. */
  readonly compression: CompressionChoice;
  /** By the compression if left out. */
  readonly compressionLevel?: number;
  /** Leave out listed lines that do not name a container image. */
  readonly skipsArtifacts?: boolean;
  /** SOURCE_DATE_EPOCH, in seconds since 1970. */
  readonly sourceDateEpoch?: number;
}

/** What is known of a bundle before any image is read: enough to see that nothing has changed. */
export interface Outline {
  readonly listFiles: BuildFacts['listFiles'];
  readonly agents: readonly AgentFile[];
  /** Hash of the whole input and of all options. */
  readonly key: string;
}

/** Small reads at a time: enough to keep a disk busy, far from the limit of open files. */
const PARALLEL_READS = 16;

/** @throws PrestageError ERR_BUILD_AGENT */
export async function outlineOf(input: BuildInput, options: FactOptions): Promise<Outline> {
  const agents = await findAgents(options.agents, options.architecture);
  const listFiles = new Map<string, { from: string; sha256: string }>();
  for (const [name, from] of input.listFiles)
    listFiles.set(name, {
      from,
      sha256: createHash('sha256')
        .update(await readFile(from))
        .digest('hex'),
    });
  const absent = await absentIn(input);
  const describe = ({ names, listed, source }: InputImage): unknown => [listed.text, names, stateOf(source)];
  const key = keyOf(
    'bundle',
    options.architecture,
    options.payloads,
    options.sourceDateEpoch ?? null,
    options.osImages ?? null,
    [options.compression, options.compressionLevel ?? null],
    ...(absent.length > 0 ? ['absent', absent] : []),
    ...(options.skipsArtifacts === true ? ['skip-artifacts', input.leftOut] : []),
    input.stages.map(({ stage, images }) => [stage, images.map(describe)]),
    input.registryImage === undefined ? null : describe(input.registryImage),
    input.signatureKey,
    [...listFiles].map(([name, { sha256 }]) => [name, sha256]),
    agents,
  );
  return { agents, listFiles, key };
}

/** Manifests that lists of a layout name and the layout lacks: a later pull can add them without a change of the list's digest. */
async function absentIn({ directory, stages, registryImage }: BuildInput): Promise<readonly Digest[]> {
  const images = [...stages.flatMap((one) => one.images), ...(registryImage === undefined ? [] : [registryImage])];
  const lists = new Set(images.flatMap(({ source }) => (source.kind === 'layout' ? [source.digest] : [])));
  const limit = pLimit(PARALLEL_READS);
  const found = await Promise.all(
    // If a list cannot be read, the reader of the image reports it.
    [...lists].map(async (digest) => await limit(async () => (await layoutList(directory, digest).catch(() => undefined))?.absent ?? [])),
  );
  return found
    .flat()
    .map(({ digest }) => digest)
    .toSorted();
}

/** Identifies one state of an image's bytes. */
export function stateOf(source: ImageSource): unknown {
  return source.kind === 'layout' ? source.digest : [source.archive.name, source.archive.sizeBytes, source.archive.modifiedMs];
}

/**
 * Reads manifests and configs of all images.
 * @param options.layout the OCI image layout that has the blobs
 * @param options.digestOf digest of the manifest that a source leads to
 * @throws PrestageError ERR_LAYOUT, ERR_LAYOUT_BLOB, ERR_MANIFEST, ERR_ARCHITECTURE, ERR_ARCHIVE_REFERENCE, ERR_NOT_IMAGE, ERR_RELEASE, ERR_SOURCE
 */
export async function gatherFacts(
  input: BuildInput,
  outline: Outline,
  options: FactOptions & {
    readonly layout: string;
    readonly digestOf: (source: ImageSource) => Digest;
    readonly record: BuildRecord;
    readonly canLink: boolean;
  },
): Promise<BuildFacts> {
  const limit = pLimit(PARALLEL_READS);
  const read = new Map<Digest, ReturnType<typeof readSourceImage>>();
  const named = async ({ listed, names, source }: InputImage): Promise<NamedImage> => {
    const digest = options.digestOf(source);
    checkListed(listed.text, listed.reference.digest, digest);
    const image = read.get(digest) ?? limit(() => readSourceImage(options.layout, digest, options.architecture));
    read.set(digest, image);
    const found = { names, image: await image };
    const signatures = await limit(() => readSourceSignatures(options.layout, found, input.findSignatures));
    const attached = await limit(() => readSourceAttached(options.layout, found, input.findAttached));
    return { reference: listed.text, ...found, ...(signatures.length > 0 && { signatures }), ...(attached.length > 0 && { attached }) };
  };
  const artifacts: { readonly text: string; readonly message: string }[] = [];
  const namedOrArtifact = async (image: InputImage, stage: string): Promise<readonly NamedImage[]> =>
    await named(image).then(
      (found) => [found],
      (error: unknown) => {
        if (!(error instanceof PrestageError) || error.code !== 'ERR_NOT_IMAGE') throw error;
        artifacts.push({ text: image.listed.text, message: `${stage}: ${image.listed.text}: ${error.message}` });
        return [];
      },
    );
  const inStages: BuildFacts['stages'][number][] = [];
  for (const { stage, images } of input.stages)
    inStages.push({ stage, images: (await Promise.all(images.map(async (image) => await namedOrArtifact(image, stage)))).flat() });
  if (artifacts.length > 0 && options.skipsArtifacts !== true) throw artifactsError(artifacts.map(({ message }) => message));
  const components = await readComponents(
    options.layout,
    inStages.flatMap(({ images }) => images),
  );
  const listed = inStages.map(({ stage, images }) => ({ stage, images: images.map((image) => withComponents(image, components)) }));
  const osImages = planOsImages(
    listed.flatMap((one) => one.images),
    options.osImages,
  );
  const isKept = (image: NamedImage): boolean => osImages.choice !== 'omit' || !isOperatingSystem(image);
  const stages = listed.map(({ stage, images }) => ({ stage, images: images.filter(isKept) }));
  const registryImage = input.registryImage === undefined ? undefined : await named(input.registryImage);
  const all = [...stages.flatMap((one) => one.images), ...(registryImage === undefined ? [] : [registryImage])];
  const known = knownSizes(options.record);
  const estimates = await Promise.all(
    layersOf(all).map((layer) =>
      limit(async () => [layer.digest, known.get(layer.digest) ?? (await estimateUnpacked(options.layout, layer))] as const),
    ),
  );
  const kept = new Set(stages.flatMap(({ images }) => images.map(({ reference }) => reference)));
  const archives = input.stages.flatMap(({ images }) =>
    images.flatMap(({ listed: { text }, source }) => (source.kind === 'archive' && kept.has(text) ? [source.archive] : [])),
  );
  return {
    architecture: options.architecture,
    payloads: options.payloads,
    stages,
    ...(registryImage && { registryImage }),
    ...(input.kind === 'archives' && { archives: [...new Map(archives.map((archive) => [archive.path, archive])).values()] }),
    listFiles: outline.listFiles,
    leftOut: [...new Set([...input.leftOut, ...artifacts.map(({ text }) => text)])],
    agents: outline.agents,
    releaseSignatures: releasesAmong(input.releaseSignatures, all),
    stampSeconds: stampOf(all, options.sourceDateEpoch),
    unpackedBytes: new Map(estimates),
    osImages,
    compression: planCompression(releaseOf(all), options.compression, options.compressionLevel),
    canLink: options.canLink,
  };
}

/** A cluster checks a release by the digest that it is given: that of the list, or of the image for its architecture. */
function releasesAmong(signed: readonly ReleaseSignature[], images: readonly NamedImage[]): readonly ReleaseSignature[] {
  const digests = new Set(images.flatMap(({ image }) => [image.top.digest, image.manifest]));
  return signed.filter(({ release }) => digests.has(release));
}

/** Unpacked sizes that earlier builds have counted. */
export function knownSizes(record: BuildRecord): ReadonlyMap<Digest, number> {
  return new Map(Object.entries(record.unpackedBytes).flatMap(([digest, bytes]) => (isDigest(digest) ? [[digest, bytes] as const] : [])));
}

function checkListed(reference: string, wanted: Digest | undefined, found: Digest): void {
  if (wanted === undefined || wanted === found) return;
  throw new PrestageError(
    'ERR_ARCHIVE_REFERENCE',
    `the archive of ${reference} holds ${found} instead`,
    'Pull the image again, or take it off the list',
  );
}
