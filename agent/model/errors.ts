import { systemRefusal } from './system-error.ts';

/**
 * What a process exit code means. 0 is ready or complete; the numbers are stable across releases.
 * docs/errors.md holds the same table (a test holds both equal).
 */
export const exitCodes = {
  internal: 1,
  usage: 2,
  partial: 3,
  failed: 4,
  partition: 5,
  payload: 6,
  space: 7,
  locked: 8,
  tool: 9,
  unfinished: 10,
  interrupted: 11,
  /** Only of `status`: no fault was found, and not everything could be looked at. */
  unknown: 12,
  /** A policy refuses images for want of their signatures, or there is no policy. */
  unsigned: 13,
} as const;

/** Added to the exit code of a run that failed under the policy `open`: the units count these as success, so that the boot goes on. */
export const TOLERATED = 64;

export type ExitName = keyof typeof exitCodes;

/** Every error code with the exit code that it ends in, and what it says in one line. */
export const errorTable = {
  ERR_INTERNAL: { exit: 'internal', summary: 'A fault of the agent itself' },
  ERR_USAGE: { exit: 'usage', summary: 'The command line cannot be understood' },
  ERR_SETTINGS: { exit: 'usage', summary: 'A setting is unknown or has an unusable value' },
  ERR_TOOL_MISSING: { exit: 'tool', summary: 'A program that the agent drives is not on this machine' },
  ERR_TOOL_FAILED: { exit: 'tool', summary: 'A program that the agent drives ended with an error' },
  ERR_PARTITION_MISSING: { exit: 'partition', summary: 'No partition of the label came up in time' },
  ERR_PARTITION_AMBIGUOUS: { exit: 'partition', summary: 'More than one partition has the label' },
  ERR_PARTITION_FILESYSTEM: { exit: 'partition', summary: 'The partition does not hold a file system that the agent mounts' },
  ERR_PARTITION_MOUNT: { exit: 'partition', summary: 'The file system of the partition does not mount' },
  ERR_PARTITION_BUSY: { exit: 'partition', summary: 'The partition could not be given back' },
  ERR_PARTITION_EXISTS: { exit: 'partition', summary: 'The disk has a partition of the label already' },
  ERR_PARTITION_WRITE: { exit: 'failed', summary: 'A bundle could not be written to the partition or the image' },
  ERR_DISK: { exit: 'partition', summary: 'The name is neither that of a disk nor of a disk image' },
  ERR_DISK_BUSY: { exit: 'partition', summary: 'The disk is in use' },
  ERR_DISK_SYSTEM: { exit: 'partition', summary: 'The disk holds the system that runs' },
  ERR_DISK_READ_ONLY: { exit: 'partition', summary: 'The disk cannot be written' },
  ERR_DISK_TABLE: { exit: 'partition', summary: 'The disk has another table than a GPT, or a damaged one' },
  ERR_DISK_ROOM: { exit: 'space', summary: 'The disk has no room for the partition' },
  ERR_DISK_CHANGED: { exit: 'partition', summary: 'The disk is not as it was when the plan was shown' },
  ERR_NOT_CONFIRMED: { exit: 'usage', summary: 'What destroys data was not confirmed' },
  ERR_SERIAL: { exit: 'usage', summary: 'The disk is another than the expected one' },
  ERR_PAYLOAD_MISSING: { exit: 'payload', summary: 'Neither the partition nor the folder holds a payload for the stage' },
  ERR_BUNDLE: { exit: 'payload', summary: 'The manifest of a bundle cannot be read' },
  ERR_BUNDLE_PARTIAL: { exit: 'payload', summary: 'A bundle was not written to its end' },
  ERR_BUNDLE_PIN: { exit: 'payload', summary: 'The manifest of a bundle does not have the hash that is pinned' },
  ERR_BUNDLE_ARCHITECTURE: { exit: 'payload', summary: 'A bundle was built for machines of another architecture' },
  ERR_BUNDLE_FILE: { exit: 'payload', summary: 'A file of a bundle is missing, or has another size or hash than its manifest says' },
  ERR_LAYOUT: { exit: 'payload', summary: 'An OCI image layout, or a blob that it needs, cannot be read' },
  ERR_LAYOUT_BLOB: { exit: 'payload', summary: 'A blob of an OCI image layout has another size or digest than its name or manifest says' },
  ERR_RELEASE: { exit: 'payload', summary: 'A release image does not say what belongs to it' },
  ERR_CATALOG: { exit: 'payload', summary: 'An operator catalog cannot be read' },
  ERR_OPERATOR: { exit: 'payload', summary: 'A catalog does not have the operator, channel or version, or its channel has no one head' },
  ERR_CLASSIFICATION: { exit: 'usage', summary: 'A classification of images by stage cannot be read' },
  ERR_SOURCE: { exit: 'payload', summary: 'An image that files are to be read from cannot be opened' },
  ERR_DELIVERY: { exit: 'usage', summary: 'The delivery asked for does not go with the payload' },
  ERR_LIST: { exit: 'payload', summary: 'An image list has a line that cannot be read' },
  ERR_LIST_AMBIGUOUS: { exit: 'payload', summary: 'A folder holds two image lists of one kind for the stage' },
  ERR_MAPPING: { exit: 'payload', summary: 'mapping.txt has a line that cannot be read' },
  ERR_ARCHIVE_MISSING: { exit: 'payload', summary: 'The archive of a listed image is not there' },
  ERR_ARCHIVE_COLLISION: { exit: 'payload', summary: 'Two listed images have the same archive name' },
  ERR_ARCHIVE_REFERENCE: { exit: 'payload', summary: 'An archive holds another image than its reference says' },
  ERR_ARCHIVE_READ: { exit: 'payload', summary: 'An archive cannot be read from the partition' },
  ERR_ARCHIVE_FORMAT: { exit: 'payload', summary: 'An archive is not a gzip file' },
  ERR_ARCHIVE_TRUNCATED: { exit: 'payload', summary: 'An archive ends before its gzip stream, or its tar stream, does' },
  ERR_ARCHIVE_TRAILING: { exit: 'payload', summary: 'An archive goes on after its gzip stream' },
  ERR_ARCHIVE_DAMAGED: { exit: 'payload', summary: 'The gzip stream of an archive is damaged' },
  ERR_ARCHIVE_TAR: { exit: 'payload', summary: 'The tar stream of an archive cannot be read' },
  ERR_ARCHIVE_PADDING: { exit: 'payload', summary: 'An archive holds too many bytes outside its members' },
  ERR_ARCHIVE_NAME: { exit: 'payload', summary: 'A member name has control characters or is not UTF-8' },
  ERR_ARCHIVE_ABSOLUTE: { exit: 'payload', summary: 'A member of an archive has an absolute path' },
  ERR_ARCHIVE_ESCAPE: { exit: 'payload', summary: 'A member of an archive climbs out of it with ".."' },
  ERR_ARCHIVE_TOP: { exit: 'payload', summary: 'A member lies outside the directory that the archive is named for' },
  ERR_ARCHIVE_NESTED: { exit: 'payload', summary: 'A member lies more than one directory deep' },
  ERR_ARCHIVE_SYMLINK: { exit: 'payload', summary: 'A member of an archive is a symbolic link' },
  ERR_ARCHIVE_HARDLINK: { exit: 'payload', summary: 'A member of an archive is a hard link' },
  ERR_ARCHIVE_DEVICE: { exit: 'payload', summary: 'A member of an archive is a device' },
  ERR_ARCHIVE_FIFO: { exit: 'payload', summary: 'A member of an archive is a fifo' },
  ERR_ARCHIVE_TYPE: { exit: 'payload', summary: 'A member of an archive is neither a file nor a directory' },
  ERR_ARCHIVE_LAYOUT: { exit: 'payload', summary: 'A member does not belong to the dir: layout' },
  ERR_ARCHIVE_DUPLICATE: { exit: 'payload', summary: 'An archive has a member twice' },
  ERR_ARCHIVE_SIZE: { exit: 'payload', summary: 'A member has an impossible size' },
  ERR_ARCHIVE_OVERSIZE: { exit: 'payload', summary: 'A member of an archive is too large' },
  ERR_ARCHIVE_COUNT: { exit: 'payload', summary: 'An archive has too many members' },
  ERR_ARCHIVE_VERSION: { exit: 'payload', summary: 'The version member of an archive is not that of the dir: layout' },
  ERR_ARCHIVE_MEMBER: { exit: 'payload', summary: 'An archive lacks a member that its manifests need' },
  ERR_ARCHIVE_DIGEST: { exit: 'payload', summary: 'A blob has not the digest that names it' },
  ERR_ARCHIVE_BLOB_SIZE: { exit: 'payload', summary: 'A blob has not the size that its manifest says' },
  ERR_ARCHIVE_WRITE: { exit: 'failed', summary: 'A blob cannot be written to the scratch space' },
  ERR_ARCHIVE_WORKER: { exit: 'internal', summary: 'The thread that read an archive ended unexpectedly' },
  ERR_MIRROR: { exit: 'payload', summary: 'A folder holds no oc-mirror archive that can be read' },
  ERR_MIRROR_LAYOUT: {
    exit: 'payload',
    summary: 'A member of an oc-mirror archive belongs neither to a registry tree nor to its workspace',
  },
  ERR_MIRROR_LINK: { exit: 'payload', summary: 'A link of a registry tree does not hold the digest that it stands for' },
  ERR_MIRROR_MISSING: { exit: 'payload', summary: 'What an image needs is in none of the archives' },
  ERR_MIRROR_SETS: { exit: 'payload', summary: 'An IDMS, ITMS, ICSP or ImageSetConfiguration cannot be read' },
  ERR_REGISTRY_PORT: { exit: 'failed', summary: 'The registry cannot listen on its address' },
  ERR_REGISTRY_TAKEN: { exit: 'failed', summary: 'Another program listens on the address of the registry' },
  ERR_REGISTRY_IMAGE: { exit: 'failed', summary: 'The image of the registry is not in storage, or does not hold its program' },
  ERR_REGISTRY_START: { exit: 'failed', summary: 'The registry does not start, or does not answer' },
  ERR_REGISTRY_WRITE: { exit: 'failed', summary: 'The files of the registry cannot be written' },
  ERR_ARCHITECTURE: { exit: 'payload', summary: 'An image is for another architecture, or its list has none for this machine' },
  ERR_SPACE_STORAGE: { exit: 'space', summary: 'The storage has not enough free space' },
  ERR_SPACE_SCRATCH: { exit: 'space', summary: 'The scratch space is too small' },
  ERR_SPACE_MEMORY: { exit: 'space', summary: 'The storage lies in memory and memory is short' },
  ERR_SPACE_KUBELET: { exit: 'space', summary: 'The storage would pass the mark at which kubelet removes images' },
  ERR_SPACE_STORE: { exit: 'space', summary: 'The disk has no room for the copy of a store image' },
  ERR_SPACE_PARTITION: { exit: 'space', summary: 'There is not enough free space for a bundle on its partition, or for its image' },
  ERR_SPACE_REGISTRY: { exit: 'space', summary: 'There is not enough free space for the files of the registry' },
  ERR_LOAD: { exit: 'failed', summary: 'An image could not be loaded into containers-storage' },
  ERR_STORAGE: { exit: 'failed', summary: 'The containers-storage cannot be read' },
  ERR_STORAGE_DAMAGED: { exit: 'failed', summary: 'An image in containers-storage is damaged' },
  ERR_STORE_GONE: { exit: 'payload', summary: 'The store image that was open, or its partition, is gone' },
  ERR_STORE_DAMAGED: { exit: 'payload', summary: 'The store image that is open cannot be read, or does not have its sha256' },
  ERR_STORE_EXCHANGED: { exit: 'payload', summary: 'The bundle has another store image than the one that is open' },
  ERR_STORE_REFUSED: { exit: 'tool', summary: 'The engines of the node do not take a store image' },
  ERR_CRIO_STORE: { exit: 'partial', summary: 'CRI-O was started before it was told of the store, and does not see its images' },
  ERR_STORE_IMAGE: { exit: 'payload', summary: 'A store image lacks an image that it should have' },
  ERR_STORE_DANGLING: { exit: 'failed', summary: 'Records of containers-storage stand on a store image that is gone, and stay' },
  ERR_STORE_PODS: { exit: 'failed', summary: 'Pods stand on the store image, and cannot be ended before it is taken away' },
  ERR_RELEASE_STEP: { exit: 'failed', summary: 'Something that was set up could not be undone' },
  ERR_KEEP_IMAGE: { exit: 'failed', summary: 'An image that a running container uses could not be copied out of the store image' },
  ERR_TRUST: { exit: 'usage', summary: 'The kind of trust asked for is not possible here' },
  ERR_STORE_DIGEST: { exit: 'payload', summary: 'A store image does not have the size or the hash that its bundle says' },
  ERR_STORE_MOUNT: { exit: 'payload', summary: 'A store image does not mount' },
  ERR_STORE_UNSUPPORTED: { exit: 'tool', summary: 'The kernel of the node cannot mount a store image that is intact' },
  ERR_STORE_BUSY: { exit: 'failed', summary: 'An open store cannot be closed, because something uses it' },
  ERR_REGISTRIES: { exit: 'failed', summary: 'The configuration of registries cannot be read, or not be rewritten' },
  ERR_MIRROR_UNSIGNED: { exit: 'unsigned', summary: 'A policy demands signatures that the mirror of a node cannot show' },
  ERR_POLICY_MISSING: { exit: 'unsigned', summary: 'A machine has no signature policy, and without one engines pull nothing' },
  ERR_POLICY_FILE: { exit: 'failed', summary: 'The signature policy of a machine cannot be read' },
  ERR_REGISTRIES_D: { exit: 'failed', summary: 'The files that say where signatures are found cannot be used' },
  ERR_SIGNATURE: { exit: 'payload', summary: 'A signature of an image cannot be read' },
  ERR_ATTACHMENT: { exit: 'payload', summary: 'What is attached to an image cannot be used' },
  ERR_REPORT: { exit: 'failed', summary: 'A report cannot be written' },
  ERR_PLACE: { exit: 'failed', summary: 'A directory of the agent is a link, or others than root could write to it' },
  ERR_REMOVE: { exit: 'failed', summary: 'A directory is not removed, because the removal could reach something else' },
  ERR_SCRATCH: { exit: 'failed', summary: 'Others than root could exchange the scratch directory' },
  ERR_WORKPLACE: { exit: 'usage', summary: 'Others could exchange the directory that a command is to work in' },
  ERR_LOCKED: { exit: 'locked', summary: 'Another instance is at work' },
  ERR_INTERRUPTED: { exit: 'interrupted', summary: 'The run was ended before it was through' },
  ERR_FETCH_NETWORK: { exit: 'failed', summary: 'A web server cannot be reached, breaks off or is overloaded' },
  ERR_FETCH_REFUSED: { exit: 'failed', summary: 'A web server refuses a file or a folder' },
  ERR_FETCH_CONTENT: { exit: 'failed', summary: 'A web server answers with something else than the file that was asked for' },
  ERR_FETCH_INDEX: { exit: 'failed', summary: 'An address has neither the manifest of a bundle nor an index page' },
  ERR_FETCH_WRITE: { exit: 'failed', summary: 'A fetched file cannot be written' },
  ERR_SPACE_FETCH: { exit: 'space', summary: 'There is not enough free space for the files to fetch' },
  ERR_PULL_LOGIN: { exit: 'failed', summary: 'A registry wants a login, or another one' },
  ERR_PULL_DENIED: { exit: 'failed', summary: 'A registry refuses a login an image' },
  ERR_PULL_MISSING: { exit: 'failed', summary: 'A registry has no such image' },
  ERR_PULL_LIMIT: { exit: 'failed', summary: 'A registry asks for fewer requests' },
  ERR_PULL_SERVER: { exit: 'failed', summary: 'A registry fails' },
  ERR_PULL_NETWORK: { exit: 'failed', summary: 'The connection to a registry fails or brings nothing' },
  ERR_PULL_TLS: { exit: 'failed', summary: 'The certificate of a registry is not trusted' },
  ERR_PULL_DIGEST: { exit: 'failed', summary: 'A registry gives bytes of another digest or size' },
  ERR_PULL_UNSIGNED: { exit: 'failed', summary: 'A registry has no signature of an image, and one was demanded' },
  ERR_PULL_POLICY: { exit: 'failed', summary: 'The policy of this machine does not allow an image' },
  ERR_PULL: { exit: 'failed', summary: 'An image cannot be pulled, for another reason' },
  ERR_PULL_WRITE: { exit: 'failed', summary: 'The folder to pull into cannot be written' },
  ERR_SPACE_PULL: { exit: 'space', summary: 'There is not enough free space for the images to pull' },
  ERR_NOT_IMAGE: { exit: 'payload', summary: 'What a list or a layout names is not a container image for Linux' },
  ERR_REFERENCE: { exit: 'payload', summary: 'An image reference does not follow the grammar' },
  ERR_MANIFEST: { exit: 'payload', summary: 'An image manifest cannot be read' },
  ERR_IGNITION: { exit: 'usage', summary: 'An ignition override breaks the rules of its specification' },
  ERR_IGNITION_NAME: { exit: 'usage', summary: 'Pieces of two ignition overrides claim the same or a foreign name' },
  ERR_IGNITION_SIZE: { exit: 'usage', summary: 'An ignition override is larger than what has to carry it' },
  ERR_CERTIFICATE: { exit: 'usage', summary: 'A certificate, its key or its CA cannot be used or made' },
  ERR_BUILD_INPUT: {
    exit: 'payload',
    summary: 'The folder to build from is neither an OCI image layout nor a folder of archives, or has no list',
  },
  ERR_BUILD_IMAGE: { exit: 'payload', summary: 'A listed image is not in the folder to build from' },
  ERR_BUILD_OUTPUT: { exit: 'usage', summary: 'The folder to build into holds something that is no bundle' },
  ERR_BUILD_AGENT: { exit: 'usage', summary: 'A file is not an executable of the agent for Linux' },
  ERR_BUILD_UNSIGNED: { exit: 'payload', summary: 'A release demands signatures that the folder to build from does not have' },
  ERR_BUILD_STORE: { exit: 'failed', summary: 'A store image cannot be composed' },
  ERR_BUILD_PROOF: { exit: 'failed', summary: 'A store image does not show what was put into it' },
  ERR_SPACE_BUILD: { exit: 'space', summary: 'There is not enough free space to build a bundle' },
  ERR_SYSTEM: {
    exit: 'failed',
    summary: 'The kernel refuses to read, to write or to start something, for lack of room or because a disk fails',
  },
  ERR_SYSTEM_FILE: { exit: 'failed', summary: 'A file of the system cannot be added or changed without harm to somebody else’s' },
} as const satisfies Record<string, { exit: ExitName; summary: string }>;

export type ErrorCode = keyof typeof errorTable;

/** Whether a text, from a state file for instance, is a code of this version. */
export function isErrorCode(text: unknown): text is ErrorCode {
  return typeof text === 'string' && Object.hasOwn(errorTable, text);
}

/** What a thrown value says, whatever it is. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** The process exit code that an error code ends in. */
export function exitCodeOf(code: ErrorCode): number {
  return exitCodes[errorTable[code].exit];
}

/**
 * An error that an operator can act upon: `message` says what, which and got; `remedy` says what to do next,
 * as an imperative.
 */
export class PrestageError extends Error {
  override readonly name = 'PrestageError';
  readonly code: ErrorCode;
  readonly remedy: string;

  constructor(code: ErrorCode, message: string, remedy: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.remedy = remedy;
  }

  /** The process exit code that this error ends in. */
  get exitCode(): number {
    return exitCodeOf(this.code);
  }
}

/** The error as data, for state files and `--output json`. */
export interface ErrorRecord {
  readonly code: ErrorCode;
  readonly message: string;
  readonly remedy: string;
}

/**
 * Any thrown value as an ErrorRecord; what is neither a PrestageError nor a refusal of the kernel becomes ERR_INTERNAL. Where giving something back failed after an error,
 * the record is of the first one and tells both.
 */
export function errorRecord(error: unknown): ErrorRecord {
  if (error instanceof PrestageError) {
    return { code: error.code, message: error.message, remedy: error.remedy };
  }
  if (error instanceof SuppressedError) {
    const [first, then] = [errorRecord(error.suppressed), errorRecord(error.error)];
    return { code: first.code, message: `${first.message}; after that: ${then.message}`, remedy: `${first.remedy}; then: ${then.remedy}` };
  }
  const message = messageOf(error);
  const refusal = systemRefusal(error);
  if (refusal !== undefined) return { code: 'ERR_SYSTEM', message, remedy: refusal.remedy };
  return { code: 'ERR_INTERNAL', message, remedy: 'Report this with what this collects: prestage-agent report' };
}
