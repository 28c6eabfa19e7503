import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { partialBundle, readManifest, type SealedBundle } from '../bundle/read-bundle.ts';
import type { BundleFault, VerifyMode } from '../bundle/verify-files.ts';
import { createArchivePool } from '../extract/pool.ts';
import type { Host } from '../host/host.ts';
import { temporaryDirectory } from '../host/remove-tree.ts';
import { BUNDLE_FILE, type Bundle, compressionText, PARTIAL_FILE } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { STAGES, type Stage } from '../model/stage.ts';
import { stageListNames } from '../model/stage-lists.ts';
import { openPath } from '../partition/open-path.ts';
import type { Policy } from '../signatures/policy.ts';
import { findOcMirror } from '../tree/archive-sets.ts';
import { surveyFolder, verifyArchives } from './archives.ts';
import { type Checked, faultOf, joinChecked, NOTHING_WRONG, type VerifyContext } from './context.ts';
import { hashLayout, layoutBytes, verifyLayout } from './layout.ts';
import { archivesOf, mirrorBytes, verifyMirror } from './mirror.ts';
import { judgeTools, type PolicyReport, verifyPolicy } from './policy.ts';
import { sealedBytes, verifySealed } from './sealed.ts';

export interface VerifyRequest {
  /** A folder, a block device or a disk image. */
  readonly path: string;
  readonly mode: VerifyMode;
  /** GPT label of the partition on a disk. */
  readonly label: string;
  /** Maximum number of threads. */
  readonly parallel: number;
  /** GOARCH name of the nodes, which a bundle must match; defaults to that of the bundle or, without a manifest, of this machine. */
  readonly architecture?: string | undefined;
  /** The only hash that prestage.json may have. */
  readonly bundleSha256?: string | undefined;
  /** If set, the report names the images that a node with this policy would refuse. */
  readonly policy?: Policy | undefined;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: VerifyProgress) => void;
}

export interface VerifyProgress {
  readonly bytes: number;
  readonly totalBytes: number;
}

/** Result of a verification. Sizes are bytes. */
export interface VerifyReport {
  /** The path in the request. */
  readonly path: string;
  readonly source: 'folder' | 'device' | 'image';
  /** The device that was mounted. */
  readonly device?: string;
  /** `bundle`: sealed by prestage.json; a folder without one is recognized by its content. */
  readonly what: 'bundle' | 'archives' | 'oci' | 'oc-mirror';
  readonly mode: VerifyMode;
  readonly isSound: boolean;
  readonly release?: string;
  readonly architecture: string;
  /** sha256 of prestage.json. */
  readonly bundleSha256?: string;
  readonly payloads: readonly string[];
  /** For a bundle: how its store images are compressed, as a text; `not recorded` for older builds. */
  readonly stores?: readonly { readonly stage: Stage; readonly image: string; readonly compression: string }[];
  readonly images: Readonly<Partial<Record<Stage, number>>>;
  readonly files: number;
  readonly bytes: number;
  readonly faults: readonly BundleFault[];
  readonly notices: readonly string[];
  /** Only if a policy was given. */
  readonly policy?: PolicyReport;
}

/**
 * Verifies a bundle or a folder. `quick` reads its structure: the manifest and its pin, sizes, manifests of images, names, lists. `full` reads every
 * byte: hashes of files, digests of blobs, archives to their end, the hash tree and the names of store images. Nothing is written there.
 * @throws PrestageError if there is nothing to verify: ERR_PAYLOAD_MISSING, ERR_DISK…, ERR_PARTITION_…; the signal's reason
 */
export async function verify(host: Host, request: VerifyRequest): Promise<VerifyReport> {
  await using opened = await openPath(host, request.path, request.label);
  await using scratch = await temporaryDirectory('prestage-verify-');
  await using pool = createArchivePool({ size: request.parallel, log: host.log });
  const total = { bytes: 0, totalBytes: 0 };
  const context: VerifyContext = {
    host,
    mode: request.mode,
    architecture: request.architecture ?? host.architecture,
    pool,
    parallel: request.parallel,
    scratch: scratch.path,
    signal: request.signal,
    onRead: (bytes) => request.onProgress?.({ bytes, totalBytes: total.totalBytes }),
  };
  const found = await verifyFolder(opened.path, request, context, (totalBytes) => {
    total.totalBytes = totalBytes;
  });
  const { checked, ...facts } = found;
  return {
    path: request.path,
    source: opened.kind,
    ...(opened.device !== undefined && { device: opened.device }),
    mode: request.mode,
    isSound: checked.faults.length === 0,
    architecture: context.architecture,
    ...facts,
    faults: checked.faults,
    notices: checked.notices,
  };
}

type Found = Pick<VerifyReport, 'policy' | 'what' | 'release' | 'bundleSha256' | 'payloads' | 'images' | 'files' | 'bytes'> & {
  readonly checked: Checked;
  readonly architecture?: string;
};

async function verifyFolder(
  directory: string,
  request: VerifyRequest,
  context: VerifyContext,
  onTotal: (bytes: number) => void,
): Promise<Found> {
  const names = await readdir(directory);
  if (names.includes(BUNDLE_FILE) || names.includes(PARTIAL_FILE))
    return await verifyBundle(directory, names, { request, context, onTotal });
  if (request.policy !== undefined) throw noBundle(directory);
  const unpinned = pinFaults(undefined, directory, request.bundleSha256);
  const mirror = await findOcMirror(directory);
  if (mirror !== undefined) {
    const bytes = mirrorBytes(mirror);
    onTotal(bytes);
    const checked = joinChecked([unpinned, await verifyMirror(directory, mirror, context)]);
    return { what: 'oc-mirror', payloads: ['oc-mirror'], images: {}, files: archivesOf(mirror).length, bytes, checked };
  }
  if (names.includes('oci-layout')) {
    const part = { directory, path: '' };
    const bytes = await layoutBytes(part);
    onTotal(bytes);
    const structure = await verifyLayout(part, undefined, context);
    const blobs = request.mode === 'full' ? await hashLayout(part, context) : NOTHING_WRONG;
    const checked = withoutDoubles(joinChecked([unpinned, blobs, structure]));
    return { what: 'oci', payloads: ['oci'], images: {}, files: names.length, bytes, checked };
  }
  return await verifyArchivesFolder(directory, unpinned, { context, onTotal, names });
}

interface Work {
  readonly context: VerifyContext;
  readonly onTotal: (bytes: number) => void;
}

async function verifyArchivesFolder(
  directory: string,
  unpinned: Checked,
  work: Work & { readonly names: readonly string[] },
): Promise<Found> {
  const { context, onTotal, names } = work;
  const part = { directory, path: '' };
  const survey = await surveyFolder(part, undefined);
  if (Object.keys(survey.images).length === 0) throw nothingThere(directory, names);
  const bytes = survey.archives.reduce((total, archive) => total + archive.sizeBytes, 0);
  onTotal(bytes);
  let readBytes = 0;
  const onRead = (more: number): void => {
    readBytes += more;
    context.onRead(readBytes);
  };
  const faults = await verifyArchives(part, survey.archives, { ...context, onRead });
  const checked = joinChecked([unpinned, survey, { faults, notices: [] }]);
  return { what: 'archives', payloads: ['archives'], images: survey.images, files: survey.archives.length, bytes, checked };
}

async function verifyBundle(
  directory: string,
  names: readonly string[],
  { request, context, onTotal }: Work & { readonly request: VerifyRequest },
): Promise<Found> {
  const half: Checked = names.includes(PARTIAL_FILE)
    ? { faults: [faultOf(PARTIAL_FILE, partialBundle(directory))], notices: [] }
    : NOTHING_WRONG;
  const unread = { what: 'bundle', payloads: [], images: {}, files: 0, bytes: 0 } as const;
  if (!names.includes(BUNDLE_FILE)) return { ...unread, checked: half };
  let sealed: SealedBundle;
  try {
    sealed = await readManifest(directory);
  } catch (error) {
    return { ...unread, checked: joinChecked([half, { faults: [faultOf(BUNDLE_FILE, error)], notices: [] }]) };
  }
  const { bundle, sha256 } = sealed;
  const bytes = sealedBytes(bundle);
  onTotal(bytes);
  const checked = await verifySealed(sealed, { ...context, architecture: bundle.architecture });
  const { policy } = request;
  const judged = policy && (await verifyPolicy(directory, { bundle, policy }, judgeTools(context.host, context.scratch)));
  return {
    what: 'bundle',
    ...(judged && { policy: judged }),
    release: bundle.release,
    architecture: bundle.architecture,
    bundleSha256: sha256,
    payloads: bundle.payloads.map((payload) => (payload.kind === 'store' ? `store (${payload.stage})` : payload.kind)),
    ...storesOf(bundle),
    images: Object.fromEntries(
      STAGES.flatMap((stage) => (bundle.stages[stage] === undefined ? [] : [[stage, bundle.stages[stage].images.length]])),
    ),
    files: bundle.files.length,
    bytes,
    checked: withoutDoubles(
      joinChecked([half, pinFaults(sha256, directory, request.bundleSha256), architectureFaults(bundle, directory, request), checked]),
    ),
  };
}

function storesOf({ payloads }: Bundle): Pick<VerifyReport, 'stores'> {
  const stores = payloads.flatMap((payload) => {
    if (payload.kind !== 'store') return [];
    const { stage, image, compression } = payload;
    return [{ stage, image, compression: compression === undefined ? 'not recorded' : compressionText(compression) }];
  });
  return stores.length === 0 ? {} : { stores };
}

function noBundle(directory: string): PrestageError {
  return new PrestageError(
    'ERR_USAGE',
    `${directory} has no ${BUNDLE_FILE}, so the images that a node pulls are unknown`,
    'Build a bundle from it, and verify that bundle with --policy or --openshift',
  );
}

function pinFaults(sha256: string | undefined, directory: string, pinned: string | undefined): Checked {
  if (pinned === undefined || sha256 === pinned) return NOTHING_WRONG;
  const what = sha256 === undefined ? 'is missing' : `has the sha256 ${sha256}`;
  const error = new PrestageError(
    'ERR_BUNDLE_PIN',
    `${join(directory, BUNDLE_FILE)} ${what}, but ${pinned} was requested`,
    'Write the bundle with that hash, or use the hash of this one',
  );
  return { faults: [faultOf(BUNDLE_FILE, error)], notices: [] };
}

/** The verifying machine need not be a node, so only a requested architecture is compared. */
function architectureFaults({ architecture }: Bundle, directory: string, { architecture: wanted }: VerifyRequest): Checked {
  if (wanted === undefined || wanted === architecture) return NOTHING_WRONG;
  const error = new PrestageError(
    'ERR_BUNDLE_ARCHITECTURE',
    `${join(directory, BUNDLE_FILE)} says that the bundle was built for ${architecture}, but ${wanted} was requested`,
    `Build the bundle with --architecture ${wanted}`,
  );
  return { faults: [faultOf(BUNDLE_FILE, error)], notices: [] };
}

/** Keeps the first fault of each file, since later ones are its consequences. */
function withoutDoubles({ faults, notices }: Checked): Checked {
  const broken = new Set<string>();
  const kept = faults.filter((fault) => {
    const isFile = fault.code === 'ERR_BUNDLE_FILE' || fault.code === 'ERR_LAYOUT_BLOB';
    if (!isFile) return true;
    const isNew = !broken.has(fault.path);
    broken.add(fault.path);
    return isNew;
  });
  return { faults: kept, notices };
}

function nothingThere(directory: string, names: readonly string[]): PrestageError {
  const lists = STAGES.flatMap(stageListNames).join(', ');
  return new PrestageError(
    'ERR_PAYLOAD_MISSING',
    `${directory} holds no ${BUNDLE_FILE}, OCI layout or image list; it holds: ${names.toSorted().slice(0, 12).join(', ') || 'nothing'}`,
    `Name the folder of a bundle, or one with an image list (${lists})`,
  );
}
