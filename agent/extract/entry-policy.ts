import { type Digest, digestOfHex } from '../model/digest.ts';
import type { ErrorCode } from '../model/errors.ts';
import { MANIFEST_LIMIT_BYTES } from '../model/manifest.ts';
import { archiveFault, quoteText } from './archive-faults.ts';

/** The parts of a tar header that the policy checks, after pax and GNU extensions have been applied. */
export interface EntryHeader {
  readonly name: string;
  /** Type as tar-stream names it; null if it does not know the type. */
  readonly type: string | null;
  readonly sizeBytes: number;
  /** Keywords of the entry's pax header. */
  readonly paxKeywords: readonly string[];
}

/** A member of an archive that may be read. `file` is its name in the `dir:` layout. */
export type Member = Readonly<{ file: string; sizeBytes: number }> &
  (
    | Readonly<{ kind: 'directory' | 'version' | 'signature' }>
    /** `digest` is the one in the name; undefined for manifest.json. */
    | Readonly<{ kind: 'manifest'; digest: Digest | undefined }>
    | Readonly<{ kind: 'blob'; digest: Digest }>
  );

export interface EntryPolicyOptions {
  /** Path of the archive, for messages. */
  readonly path: string;
  /** Name of the one directory that the archive must hold. */
  readonly name: string;
}

/** Most members of an archive, including its directory. An image has at most 127 layers; a list with all platforms has some hundreds of members. */
export const MEMBER_LIMIT = 4096;
/** Largest blob. Registries accept layers of about 10 GB. */
export const BLOB_LIMIT_BYTES = 64 * 2 ** 30;
/** Total size of all manifests of an archive, which are held in memory. */
const MANIFESTS_LIMIT_BYTES = 4 * MANIFEST_LIMIT_BYTES;
/** containers/image reads no larger signature (internal/iolimits, MaxSignatureBodySize). */
const SIGNATURE_LIMIT_BYTES = 4 * 1024 * 1024;
/** `version` holds one short line. */
const VERSION_LIMIT_BYTES = 1024;

const CHILD_MANIFEST = /^([0-9a-f]{64})\.manifest\.json$/;
const SIGNATURE = /^(?:[0-9a-f]{64}\.)?signature-[1-9][0-9]{0,3}$/;
/** Control characters, and the replacement character that the decoder uses for bytes that are not UTF-8. */
const UNPRINTABLE = /[\p{Cc}\ufffd]/u;

/** Refusals by type; all other types are refused as unknown. `contiguous-file` is obsolete, and our archivers do not write it. */
const REFUSED_TYPES: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  symlink: ['ERR_ARCHIVE_SYMLINK', 'is a symbolic link'],
  link: ['ERR_ARCHIVE_HARDLINK', 'is a hard link'],
  'character-device': ['ERR_ARCHIVE_DEVICE', 'is a character device'],
  'block-device': ['ERR_ARCHIVE_DEVICE', 'is a block device'],
  fifo: ['ERR_ARCHIVE_FIFO', 'is a fifo'],
};

/**
 * Judges the entries of one archive, in their order. Accepts regular files of the `dir:` layout in the directory named like the archive, each at most
 * once, within limits. The names are those that `tar czf NAME.tgz NAME` and `tar czf NAME.tgz ./NAME` write.
 * Source of the layout: containers/image, directory/directory_transport.go.
 * @returns a function that returns the member for a header or throws a PrestageError, ERR_ARCHIVE_NAME to ERR_ARCHIVE_COUNT
 */
export function createEntryPolicy(options: EntryPolicyOptions): (header: EntryHeader) => Member {
  const seen = new Set<string>();
  let manifestsBytes = 0;
  return (header) => {
    const refuse = (code: ErrorCode, what: string): Error => archiveFault(code, options.path, `member ${quoteText(header.name)} ${what}`);
    if (seen.size >= MEMBER_LIMIT) throw archiveFault('ERR_ARCHIVE_COUNT', options.path, `has more than ${MEMBER_LIMIT} members`);
    const file = fileOf(header.name, options.name, refuse);
    checkType(header, file, refuse);
    const member = memberOf(file, header.sizeBytes, refuse);
    if (seen.has(file)) throw refuse('ERR_ARCHIVE_DUPLICATE', 'appears twice');
    seen.add(file);
    checkSize(member, refuse);
    if (member.kind === 'manifest') manifestsBytes += member.sizeBytes;
    if (manifestsBytes > MANIFESTS_LIMIT_BYTES)
      throw refuse(
        'ERR_ARCHIVE_OVERSIZE',
        `brings the manifests to ${manifestsBytes} bytes, more than the limit of ${MANIFESTS_LIMIT_BYTES}`,
      );
    return member;
  };
}

export type Refuse = (code: ErrorCode, what: string) => Error;

/** The name below the top directory; empty for that directory itself. */
function fileOf(path: string, top: string, refuse: Refuse): string {
  const [first, file = '', ...deeper] = innerComponents(path, refuse);
  if (first !== top) throw refuse('ERR_ARCHIVE_TOP', `is outside the directory ${quoteText(top)}`);
  if (deeper.length > 0) throw refuse('ERR_ARCHIVE_NESTED', 'is nested more than one directory deep');
  return file;
}

/** The components of a member's path, without a leading `.`. Paths that could lead out of the archive are refused. */
export function innerComponents(path: string, refuse: Refuse): readonly string[] {
  if (UNPRINTABLE.test(path)) throw refuse('ERR_ARCHIVE_NAME', 'has control characters or invalid UTF-8 in its name');
  if (path.startsWith('/')) throw refuse('ERR_ARCHIVE_ABSOLUTE', 'has an absolute path');
  const components = path.split('/');
  if (components.includes('..')) throw refuse('ERR_ARCHIVE_ESCAPE', 'leads out of the archive with ".."');
  return components[0] === '.' ? components.slice(1) : components;
}

/** Only the top directory may be a directory, and everything in it must be a file. */
function checkType(header: EntryHeader, file: string, refuse: Refuse): void {
  const type = plainType(header, refuse);
  if (type === 'directory' && file !== '') throw refuse('ERR_ARCHIVE_NESTED', 'is a directory within the directory');
  if (type === 'file' && file === '') throw refuse('ERR_ARCHIVE_LAYOUT', 'is a file, not a directory');
}

/** Only files and directories are read. GNU tar marks a sparse file in its pax header. */
export function plainType(header: EntryHeader, refuse: Refuse): 'file' | 'directory' {
  const { type } = header;
  const [code, what] = REFUSED_TYPES[type ?? ''] ?? [];
  if (code !== undefined && what !== undefined) throw refuse(code, what);
  if (type !== 'file' && type !== 'directory')
    throw refuse('ERR_ARCHIVE_TYPE', `is neither a file nor a directory, but ${type ?? 'of an unknown type'}`);
  if (header.paxKeywords.some((keyword) => keyword.startsWith('GNU.sparse.'))) throw refuse('ERR_ARCHIVE_TYPE', 'is a sparse file');
  return type;
}

function memberOf(file: string, sizeBytes: number, refuse: Refuse): Member {
  if (file === '') return { kind: 'directory', file, sizeBytes };
  if (file === 'version') return { kind: 'version', file, sizeBytes };
  if (file === 'manifest.json') return { kind: 'manifest', file, sizeBytes, digest: undefined };
  if (SIGNATURE.test(file)) return { kind: 'signature', file, sizeBytes };
  const child = digestOfHex(CHILD_MANIFEST.exec(file)?.[1] ?? '');
  if (child !== undefined) return { kind: 'manifest', file, sizeBytes, digest: child };
  const blob = digestOfHex(file);
  if (blob !== undefined) return { kind: 'blob', file, sizeBytes, digest: blob };
  throw refuse('ERR_ARCHIVE_LAYOUT', 'does not belong to the dir: layout');
}

const LIMIT_BYTES: Readonly<Record<Member['kind'], number>> = {
  directory: 0,
  version: VERSION_LIMIT_BYTES,
  manifest: MANIFEST_LIMIT_BYTES,
  signature: SIGNATURE_LIMIT_BYTES,
  blob: BLOB_LIMIT_BYTES,
};

function checkSize(member: Member, refuse: Refuse): void {
  checkWithin(member.sizeBytes, LIMIT_BYTES[member.kind], refuse);
}

/** Refuses an impossible size, and one above the limit. */
export function checkWithin(sizeBytes: number, limit: number, refuse: Refuse): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw refuse('ERR_ARCHIVE_SIZE', `has the impossible size ${sizeBytes}`);
  if (sizeBytes > limit) throw refuse('ERR_ARCHIVE_OVERSIZE', `has ${sizeBytes} bytes, more than the limit of ${limit}`);
}
