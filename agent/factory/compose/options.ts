import { join, resolve } from 'node:path';
import type { Act } from '../../host/acts.ts';
import type { BuildInput, ListFiles } from './input.ts';
import type { OsImageChoice, OsImagePlan } from './os-images.ts';
import type { PayloadKind } from './plan.ts';
import { BUILD_FOLDER } from './record.ts';
import type { CompressionChoice, CompressionPlan } from './store-compression.ts';

export interface BuildOptions {
  /** An OCI image layout, or a folder of archives. */
  readonly from: string;
  /** Folder of the bundle. */
  readonly to: string;
  readonly lists: ListFiles;
  readonly payloads: readonly PayloadKind[];
  /** GOARCH name. */
  readonly architecture: string;
  /** Paths of executables of the agent; if empty, the running one. */
  readonly agents: readonly string[];
  /** Reference of the image that is to serve the registry on the node. */
  readonly registryImage?: string;
  /** Fail if a release in the bundle demands missing signatures; otherwise only warn. */
  readonly requiresSignatures: boolean;
  /** Leave out listed lines that do not name a container image, instead of failing. */
  readonly skipsArtifacts: boolean;
  /** How operating systems are handled; by the release if left out. */
  readonly osImages?: OsImageChoice;
  /** Of store images; `auto` goes by the release. */
  readonly compression: CompressionChoice;
  /** By the compression if left out. */
  readonly compressionLevel?: number;
  /** Directory for temporary unpacked files; in the bundle's own folder if left out. */
  readonly work?: string;
  /** SOURCE_DATE_EPOCH, in seconds since 1970. */
  readonly sourceDateEpoch?: number;
  /** Copies, threads and files at a time. */
  readonly jobs: number;
  readonly isDry: boolean;
  readonly act: Act;
  readonly signal: AbortSignal;
  /** Called with lines about the progress. */
  readonly say: (text: string) => void;
}

export interface BuildReport {
  readonly outcome: 'built' | 'unchanged' | 'planned';
  /** Absolute path of the bundle. */
  readonly bundle: string;
  /** Sizes are approximate, in bytes. */
  readonly parts: readonly {
    readonly id: string;
    readonly state: 'make' | 'keep';
    readonly outputBytes: number;
    readonly workBytes: number;
  }[];
  /** Left out if no image is an operating system, or nothing was read. */
  readonly osImages?: OsImagePlan;
  /** Left out if there is no store, or nothing was read. */
  readonly compression?: CompressionPlan;
  /** sha256 of `prestage.json`, which ignition pins; left out if nothing is sealed. */
  readonly manifestSha256?: string;
}

/** Directories of a build, absolute. */
export interface BuildFolders {
  /** The bundle. */
  readonly bundle: string;
  /** OCI image layout that has the blobs: the input itself, or the one that archives are unpacked into. */
  readonly layout: string;
  /** For temporary unpacked files; removed at the end. */
  readonly work: string;
}

export function foldersOf({ from, to, work }: Pick<BuildOptions, 'from' | 'to' | 'work'>, kind: BuildInput['kind']): BuildFolders {
  const bundle = resolve(to);
  const own = join(bundle, BUILD_FOLDER);
  return {
    bundle,
    layout: kind === 'oci' ? resolve(from) : join(own, 'input'),
    work: work === undefined ? join(own, 'work') : join(resolve(work), 'prestage-agent-build'),
  };
}
