import { type Bundle, type BundleImage, type BundlePayload, compressionText, payloadPaths } from '../model/bundle.ts';
import { STAGES, type Stage } from '../model/stage.ts';

/** Images of a stage, without their names. Sizes are bytes; a layer that several images share counts for each of them. */
export interface StageFacts {
  readonly stage: Stage;
  readonly images: number;
  readonly compressedBytes: number;
  readonly unpackedBytes: number;
}

/** A payload with its share of the files. Two payloads may share files; these count for both. */
export interface PayloadFacts {
  readonly kind: BundlePayload['kind'];
  /** Only of a store image. */
  readonly stage?: Stage;
  /** Its folder, or its store image. */
  readonly path: string;
  readonly files: number;
  readonly bytes: number;
  /** Of a store image, as a text; `not recorded` for older builds. */
  readonly compression?: string;
  readonly registryImage?: string;
}

/** What the manifest of a bundle says about its content, in numbers. */
export interface BundleFacts {
  readonly files: number;
  readonly bytes: number;
  readonly stages: readonly StageFacts[];
  readonly payloads: readonly PayloadFacts[];
  /** Distinct images of all stages. */
  readonly images: number;
  readonly signatures: { readonly sigstore: number; readonly gpg: number; readonly signedImages: number; readonly releases: number };
  /** Attestations, SBOMs and referrers. */
  readonly attachments: number;
  /** Platforms that manifest lists name and the bundle does not have; an empty text stands for entries without a platform. */
  readonly absent: readonly { readonly platform: string; readonly images: number }[];
}

/** Counts what the manifest of a bundle lists. Pure. */
export function bundleFacts(bundle: Bundle): BundleFacts {
  const images = [
    ...new Map(STAGES.flatMap((stage) => bundle.stages[stage]?.images ?? []).map((image) => [image.reference, image])).values(),
  ];
  const signatures = images.flatMap((image) => image.signatures ?? []);
  return {
    files: bundle.files.length,
    bytes: sum(bundle.files.map(({ sizeBytes }) => sizeBytes)),
    stages: STAGES.flatMap((stage) => {
      const found = bundle.stages[stage]?.images;
      return found === undefined ? [] : [stageFacts(stage, found)];
    }),
    payloads: bundle.payloads.map((payload) => payloadFacts(payload, bundle)),
    images: images.length,
    signatures: {
      sigstore: signatures.filter(({ kind }) => kind === 'sigstore').length,
      gpg: signatures.filter(({ kind }) => kind === 'gpg').length,
      signedImages: images.filter((image) => (image.signatures ?? []).length > 0).length,
      releases: (bundle.releaseSignatures ?? []).length,
    },
    attachments: sum(images.map((image) => (image.attachments ?? []).length)),
    absent: absentFacts(images),
  };
}

function stageFacts(stage: Stage, images: readonly BundleImage[]): StageFacts {
  return {
    stage,
    images: images.length,
    compressedBytes: sum(images.map(({ compressedBytes }) => compressedBytes)),
    unpackedBytes: sum(images.map(({ unpackedBytes }) => unpackedBytes)),
  };
}

function payloadFacts(payload: BundlePayload, { files }: Bundle): PayloadFacts {
  const paths = payloadPaths(payload);
  const own = files.filter((file) => paths.some((path) => file.path === path || file.path.startsWith(`${path}/`)));
  const size = { files: own.length, bytes: sum(own.map(({ sizeBytes }) => sizeBytes)) };
  if (payload.kind === 'archives' || payload.kind === 'oci') return { kind: payload.kind, path: payload.path, ...size };
  const registryImage = payload.registryImage === undefined ? {} : { registryImage: payload.registryImage };
  if (payload.kind === 'registry') return { kind: payload.kind, path: payload.path, ...size, ...registryImage };
  const compression = payload.compression === undefined ? 'not recorded' : compressionText(payload.compression);
  return { kind: payload.kind, stage: payload.stage, path: payload.image, ...size, compression, ...registryImage };
}

function absentFacts(images: readonly BundleImage[]): BundleFacts['absent'] {
  const platforms = images.flatMap(({ absent = [] }) => [...new Set(absent.map(({ platform }) => platform))]);
  return [...new Set(platforms)].toSorted().map((platform) => ({ platform, images: platforms.filter((one) => one === platform).length }));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
