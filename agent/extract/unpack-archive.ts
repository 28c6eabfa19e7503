import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { type Digest, hexOf } from '../model/digest.ts';
import type { Descriptor } from '../model/manifest.ts';
import { notImage } from '../model/manifest-content.ts';
import { archiveFault } from './archive-faults.ts';
import { type FoundImage, type FoundManifest, findImage, readManifest, requireImage } from './archive-manifests.ts';
import { type ArchiveMember, readMembers, readWhole } from './archive-members.ts';
import { checkComplete } from './completeness.ts';
import { readPlatform } from './image-platform.ts';
import { createScratchFile, type ScratchFile } from './scratch-file.ts';
import type { JobContext, SurveyJob } from './survey-archive.ts';

export interface UnpackJob extends SurveyJob {
  /** Layers to write. The image's config is always written; all other blobs are only checked. */
  readonly writeBlobs: readonly Digest[];
  /** The layers of the image from a survey. If given, their sizes are compared before anything is written, even if manifest.json comes late. */
  readonly layers?: readonly Descriptor[];
  /** An existing, empty directory that only the caller uses. */
  readonly to: string;
}

export interface Unpacked {
  /** Digest of manifest.json. */
  readonly topDigest: Digest;
  /** Size of the archive, which was read completely. */
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Number of blobs whose digest was checked. */
  readonly blobs: number;
  /** If the archive does not hold an image for Linux: what it holds instead, for people. Only the config shows this. */
  readonly notImage?: string;
}

/** Largest config that containers/image reads (internal/iolimits, MaxConfigBodySize). */
const CONFIG_LIMIT_BYTES = 4 * 1024 * 1024;
/** Limit for possible configs held in memory until the manifest shows which blob is the config. */
const HELD_LIMIT_BYTES = 4 * CONFIG_LIMIT_BYTES;
/** First byte of a config, which is a JSON object. No layer starts like this (gzip, zstd and tar do not). */
const JSON_START = '{'.charCodeAt(0);
/** Start of the only line in `version`. Source: containers/image, directory/directory_dest.go. */
const VERSION_START = 'Directory Transport Version: 1.';

/**
 * Reads a whole archive, compares every blob with the digest in its name, and writes the files for skopeo into `to` as a `dir:` layout, mode 0600:
 * version, manifests, signatures, config, and the requested blobs.
 *
 * Files have their final names while they are being written. If this fails, `to` holds incomplete files that must not be loaded, and the caller must
 * delete it. Nothing is synced, because scratch need not survive the run.
 * @throws PrestageError ERR_ARCHIVE_* if the archive is refused, ERR_MANIFEST, ERR_ARCHITECTURE, ERR_SPACE_SCRATCH, ERR_ARCHIVE_WRITE
 */
export async function unpackArchive(job: UnpackJob, context: JobContext): Promise<Unpacked> {
  const progress = startUnpacking(job);
  let bytesRead = 0;
  const onRead: JobContext['onRead'] = (readBytes, archiveBytes) => {
    bytesRead = readBytes;
    context.onRead(readBytes, archiveBytes);
  };
  for await (const entry of readMembers({ path: job.path, name: job.name, inflater: context.inflater, onRead })) {
    await takeMember(entry, job, progress);
  }
  const { topDigest, image } = requireImage(progress.manifests, job);
  checkComplete(progress, job.path);
  if (!progress.written.has(image.config.digest)) writeHeldConfig(image.config.digest, job, progress);
  const { os } = await readPlatform(join(job.to, hexOf(image.config.digest)), image.config);
  const what = notImage(image, os);
  return {
    topDigest,
    bytesRead,
    bytesWritten: progress.bytesWritten,
    blobs: progress.blobs.size,
    ...(what !== undefined && { notImage: what }),
  };
}

/** State of the unpacking. */
interface Progress {
  hasVersion: boolean;
  readonly manifests: FoundManifest[];
  image: FoundImage | undefined;
  /** Sizes in bytes of the blobs, by digest. */
  readonly blobs: Map<Digest, number>;
  readonly wanted: ReadonlySet<Digest>;
  readonly written: Set<Digest>;
  /** Blobs that may be the config. */
  readonly held: Map<Digest, Buffer>;
  heldBytes: number;
  bytesWritten: number;
}

function startUnpacking(job: UnpackJob): Progress {
  return {
    hasVersion: false,
    manifests: [],
    image: undefined,
    blobs: new Map(),
    wanted: new Set(job.writeBlobs),
    written: new Set(),
    held: new Map(),
    heldBytes: 0,
    bytesWritten: 0,
  };
}

async function takeMember(entry: ArchiveMember, job: UnpackJob, progress: Progress): Promise<void> {
  const { member } = entry;
  switch (member.kind) {
    case 'directory':
      return;
    case 'version':
      progress.hasVersion = true;
      writeWhole(job, member.file, checkedVersion(await readWhole(entry), job.path), progress);
      return;
    case 'signature':
      writeWhole(job, member.file, await readWhole(entry), progress);
      return;
    case 'manifest': {
      const { bytes, ...manifest } = await readManifest(entry, member.digest, job.path);
      progress.manifests.push(manifest);
      progress.image = findImage(progress.manifests, job);
      writeWhole(job, member.file, bytes, progress);
      return;
    }
    case 'blob':
      await takeBlob(entry, member.digest, job, progress);
  }
}

async function takeBlob(entry: ArchiveMember, digest: Digest, job: UnpackJob, progress: Progress): Promise<void> {
  const { sizeBytes, file: name } = entry.member;
  checkStatedSize(digest, sizeBytes, job, progress);
  const isWanted = progress.wanted.has(digest) || progress.image?.image.config.digest === digest;
  using file: ScratchFile | null = isWanted ? createScratchFile(job.to, name) : null;
  const hash = createHash('sha256');
  const held: Buffer[] = [];
  let hold = !isWanted && progress.image === undefined && sizeBytes <= Math.min(CONFIG_LIMIT_BYTES, HELD_LIMIT_BYTES - progress.heldBytes);
  await entry.read((bytes) => {
    hash.update(bytes);
    file?.write(bytes);
    hold &&= held.length > 0 || bytes[0] === JSON_START;
    if (hold) held.push(bytes);
  });
  const actual: Digest = `sha256:${hash.digest('hex')}`;
  if (actual !== digest) {
    throw archiveFault('ERR_ARCHIVE_DIGEST', job.path, `${roleOf(digest, job, progress)} ${digest} has the digest ${actual}`);
  }
  progress.blobs.set(digest, sizeBytes);
  if (isWanted) {
    progress.written.add(digest);
    progress.bytesWritten += sizeBytes;
  } else if (hold) {
    progress.held.set(digest, Buffer.concat(held));
    progress.heldBytes += sizeBytes;
  }
}

/** Writes a config that came before manifest.json. */
function writeHeldConfig(config: Digest, job: UnpackJob, progress: Progress): void {
  const bytes = progress.held.get(config);
  if (bytes === undefined) {
    throw archiveFault(
      'ERR_ARCHIVE_LAYOUT',
      job.path,
      `config ${config} is not a JSON object of at most ${CONFIG_LIMIT_BYTES} bytes, or comes after too many others`,
    );
  }
  writeWhole(job, hexOf(config), bytes, progress);
}

function writeWhole(job: UnpackJob, name: string, bytes: Buffer, progress: Progress): void {
  using file = createScratchFile(job.to, name);
  file.write(bytes);
  progress.bytesWritten += bytes.length;
}

function checkedVersion(bytes: Buffer, path: string): Buffer {
  if (bytes.toString('latin1').startsWith(VERSION_START)) return bytes;
  throw archiveFault('ERR_ARCHIVE_VERSION', path, `its member version does not start with "${VERSION_START}"`);
}

/** Compares a size before the blob is read, if the stated size is already known. checkComplete compares all sizes at the end. */
function checkStatedSize(digest: Digest, sizeBytes: number, job: UnpackJob, progress: Progress): void {
  const stated = [...(job.layers ?? []), ...(progress.image?.image.layers ?? [])].find(
    (one) => one.digest === digest && one.sizeBytes !== sizeBytes,
  );
  if (stated === undefined) return;
  throw archiveFault(
    'ERR_ARCHIVE_BLOB_SIZE',
    job.path,
    `layer ${digest} has ${sizeBytes} bytes, but its manifest says ${stated.sizeBytes}`,
  );
}

function roleOf(digest: Digest, job: UnpackJob, progress: Progress): string {
  if (progress.image?.image.config.digest === digest) return 'config';
  const layers = [...job.writeBlobs, ...(job.layers ?? []), ...(progress.image?.image.layers ?? [])];
  return layers.some((layer) => layer === digest || (typeof layer === 'object' && layer.digest === digest)) ? 'layer' : 'blob';
}
