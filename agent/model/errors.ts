import { refusalRemedy, refusalText } from './system-error.ts';

/**
 * The meaning of the exit codes. 0 is ready or complete; the numbers are stable across releases.
 * docs/errors.md has the same table (a test keeps both equal).
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
  /** Only of `status`: no fault was found, but not everything could be checked. */
  unknown: 12,
  /** A policy refuses images because signatures are missing, or there is no policy. */
  unsigned: 13,
} as const;

/** Added to the exit code of a run that failed under the policy `open`: the units count these as success, so that the boot continues. */
export const TOLERATED = 64;

export type ExitName = keyof typeof exitCodes;

/** Every error code with its exit code, and its meaning in one line. */
export const errorTable = {
  ERR_INTERNAL: { exit: 'internal', summary: 'An internal error in the agent' },
  ERR_USAGE: { exit: 'usage', summary: 'The command line cannot be understood' },
  ERR_ROOT: { exit: 'usage', summary: 'A command, or a path that it was given, takes root' },
  ERR_SETTINGS: { exit: 'usage', summary: 'A setting is unknown, or its value is not valid' },
  ERR_TOOL_MISSING: { exit: 'tool', summary: 'A program that the agent needs is not installed' },
  ERR_TOOL_FAILED: { exit: 'tool', summary: 'A program that the agent called has failed' },
  ERR_PARTITION_MISSING: { exit: 'partition', summary: 'No partition with the label appeared in time' },
  ERR_PARTITION_AMBIGUOUS: { exit: 'partition', summary: 'More than one partition has the label' },
  ERR_PARTITION_FILESYSTEM: { exit: 'partition', summary: 'The partition has no file system that the agent can mount' },
  ERR_PARTITION_MOUNT: { exit: 'partition', summary: 'The file system of the partition cannot be mounted' },
  ERR_PARTITION_BUSY: { exit: 'partition', summary: 'The partition could not be unmounted or detached' },
  ERR_PARTITION_EXISTS: { exit: 'partition', summary: 'The disk already has a partition with the label' },
  ERR_PARTITION_WRITE: { exit: 'failed', summary: 'A bundle could not be written to the partition or the image' },
  ERR_DISK: { exit: 'partition', summary: 'The path is neither a disk nor a disk image' },
  ERR_DISK_BUSY: { exit: 'partition', summary: 'The disk is in use' },
  ERR_DISK_SYSTEM: { exit: 'partition', summary: 'The disk holds the running system' },
  ERR_DISK_READ_ONLY: { exit: 'partition', summary: 'The disk is write-protected' },
  ERR_DISK_TABLE: { exit: 'partition', summary: 'The partition table of the disk is not a GPT, or is damaged' },
  ERR_DISK_ROOM: { exit: 'space', summary: 'The disk has no room for the partition' },
  ERR_DISK_CHANGED: { exit: 'partition', summary: 'The disk has changed since the plan was shown' },
  ERR_NOT_CONFIRMED: { exit: 'usage', summary: 'A command that destroys data was not confirmed' },
  ERR_SERIAL: { exit: 'usage', summary: 'The disk is not the expected one' },
  ERR_PAYLOAD_MISSING: { exit: 'payload', summary: 'Neither the partition nor the folder holds a payload for the stage' },
  ERR_BUNDLE: { exit: 'payload', summary: 'The manifest of a bundle cannot be read' },
  ERR_BUNDLE_PARTIAL: { exit: 'payload', summary: 'A bundle is incomplete' },
  ERR_BUNDLE_PIN: { exit: 'payload', summary: 'The manifest of a bundle does not have the pinned hash' },
  ERR_BUNDLE_ARCHITECTURE: { exit: 'payload', summary: 'A bundle was built for another architecture' },
  ERR_BUNDLE_FILE: { exit: 'payload', summary: 'A file of a bundle is missing, or its size or hash differs from the manifest' },
  ERR_LAYOUT: { exit: 'payload', summary: 'An OCI image layout, or a blob that it needs, cannot be read' },
  ERR_LAYOUT_BLOB: { exit: 'payload', summary: 'The size or digest of a blob in an OCI image layout differs from its name or manifest' },
  ERR_RELEASE: { exit: 'payload', summary: 'A release image does not list its components' },
  ERR_CATALOG: { exit: 'payload', summary: 'An operator catalog cannot be read' },
  ERR_OPERATOR: { exit: 'payload', summary: 'A catalog lacks the operator, channel or version, or its channel has no single head' },
  ERR_CLASSIFICATION: { exit: 'usage', summary: 'A classification of images by stage cannot be read' },
  ERR_SOURCE: { exit: 'payload', summary: 'An image to read files from cannot be opened' },
  ERR_DELIVERY: { exit: 'usage', summary: 'The requested delivery is not possible with the payload' },
  ERR_LIST: { exit: 'payload', summary: 'An image list has a line that cannot be read' },
  ERR_LIST_AMBIGUOUS: { exit: 'payload', summary: 'A folder holds two image lists of the same kind for the stage' },
  ERR_MAPPING: { exit: 'payload', summary: 'mapping.txt has a line that cannot be read' },
  ERR_ARCHIVE_MISSING: { exit: 'payload', summary: 'The archive of a listed image is missing' },
  ERR_ARCHIVE_COLLISION: { exit: 'payload', summary: 'Two listed images have the same archive name' },
  ERR_ARCHIVE_REFERENCE: { exit: 'payload', summary: 'An archive does not hold the image that its reference names' },
  ERR_ARCHIVE_READ: { exit: 'payload', summary: 'An archive cannot be read from the partition' },
  ERR_ARCHIVE_FORMAT: { exit: 'payload', summary: 'An archive is not a gzip file' },
  ERR_ARCHIVE_TRUNCATED: { exit: 'payload', summary: 'An archive ends before its gzip or tar stream is complete' },
  ERR_ARCHIVE_TRAILING: { exit: 'payload', summary: 'An archive has more data after its gzip stream' },
  ERR_ARCHIVE_DAMAGED: { exit: 'payload', summary: 'The gzip stream of an archive is damaged' },
  ERR_ARCHIVE_TAR: { exit: 'payload', summary: 'The tar stream of an archive cannot be read' },
  ERR_ARCHIVE_PADDING: { exit: 'payload', summary: 'An archive has too many bytes outside its members' },
  ERR_ARCHIVE_NAME: { exit: 'payload', summary: 'A member name has control characters or is not UTF-8' },
  ERR_ARCHIVE_ABSOLUTE: { exit: 'payload', summary: 'A member of an archive has an absolute path' },
  ERR_ARCHIVE_ESCAPE: { exit: 'payload', summary: 'The path of a member leads out of the archive with ".."' },
  ERR_ARCHIVE_TOP: { exit: 'payload', summary: 'A member is outside the directory that the archive is named after' },
  ERR_ARCHIVE_NESTED: { exit: 'payload', summary: 'A member is more than one directory deep' },
  ERR_ARCHIVE_SYMLINK: { exit: 'payload', summary: 'A member of an archive is a symbolic link' },
  ERR_ARCHIVE_HARDLINK: { exit: 'payload', summary: 'A member of an archive is a hard link' },
  ERR_ARCHIVE_DEVICE: { exit: 'payload', summary: 'A member of an archive is a device' },
  ERR_ARCHIVE_FIFO: { exit: 'payload', summary: 'A member of an archive is a fifo' },
  ERR_ARCHIVE_TYPE: { exit: 'payload', summary: 'A member of an archive is neither a file nor a directory' },
  ERR_ARCHIVE_LAYOUT: { exit: 'payload', summary: 'A member does not belong to the dir: layout' },
  ERR_ARCHIVE_DUPLICATE: { exit: 'payload', summary: 'An archive has the same member twice' },
  ERR_ARCHIVE_SIZE: { exit: 'payload', summary: 'A member has an impossible size' },
  ERR_ARCHIVE_OVERSIZE: { exit: 'payload', summary: 'A member of an archive is too large' },
  ERR_ARCHIVE_COUNT: { exit: 'payload', summary: 'An archive has too many members' },
  ERR_ARCHIVE_VERSION: { exit: 'payload', summary: 'The version member of an archive is not that of the dir: layout' },
  ERR_ARCHIVE_MEMBER: { exit: 'payload', summary: 'An archive lacks a member that its manifests need' },
  ERR_ARCHIVE_DIGEST: { exit: 'payload', summary: 'A blob does not match the digest in its name' },
  ERR_ARCHIVE_BLOB_SIZE: { exit: 'payload', summary: 'The size of a blob differs from its manifest' },
  ERR_ARCHIVE_WRITE: { exit: 'failed', summary: 'A blob cannot be written to the scratch space' },
  ERR_ARCHIVE_WORKER: { exit: 'internal', summary: 'The thread that read an archive ended unexpectedly' },
  ERR_MIRROR: { exit: 'payload', summary: 'A folder has no readable oc-mirror archive' },
  ERR_MIRROR_LAYOUT: {
    exit: 'payload',
    summary: 'A member of an oc-mirror archive belongs neither to a registry tree nor to its workspace',
  },
  ERR_MIRROR_LINK: { exit: 'payload', summary: 'A link in a registry tree does not hold the expected digest' },
  ERR_MIRROR_MISSING: { exit: 'payload', summary: 'A manifest or blob of an image is in none of the archives' },
  ERR_MIRROR_SETS: { exit: 'payload', summary: 'An IDMS, ITMS, ICSP or ImageSetConfiguration cannot be read' },
  ERR_REGISTRY_PORT: { exit: 'failed', summary: 'The registry cannot listen on its address' },
  ERR_REGISTRY_TAKEN: { exit: 'failed', summary: 'Another program listens on the address of the registry' },
  ERR_REGISTRY_IMAGE: { exit: 'failed', summary: 'The registry image is not in storage, or does not contain the registry program' },
  ERR_REGISTRY_START: { exit: 'failed', summary: 'The registry does not start, or does not answer' },
  ERR_REGISTRY_WRITE: { exit: 'failed', summary: 'The files of the registry cannot be written' },
  ERR_ARCHITECTURE: { exit: 'payload', summary: 'An image is for another architecture, or its manifest list has none for this machine' },
  ERR_SPACE_STORAGE: { exit: 'space', summary: 'The storage does not have enough free space' },
  ERR_SPACE_SCRATCH: { exit: 'space', summary: 'The scratch space is too small' },
  ERR_SPACE_MEMORY: { exit: 'space', summary: 'The storage is in memory, and there is not enough memory' },
  ERR_SPACE_KUBELET: { exit: 'space', summary: 'The storage would exceed the threshold at which kubelet removes images' },
  ERR_SPACE_STORE: { exit: 'space', summary: 'The disk has no room for a copy of a store image' },
  ERR_SPACE_PARTITION: { exit: 'space', summary: 'There is not enough free space for a bundle on its partition, or for its image' },
  ERR_SPACE_REGISTRY: { exit: 'space', summary: 'There is not enough free space for the files of the registry' },
  ERR_LOAD: { exit: 'failed', summary: 'An image could not be loaded into containers-storage' },
  ERR_STORAGE: { exit: 'failed', summary: 'The containers-storage cannot be read' },
  ERR_STORAGE_DAMAGED: { exit: 'failed', summary: 'An image in containers-storage is damaged' },
  ERR_STORE_GONE: { exit: 'payload', summary: 'The open store image, or its partition, has disappeared' },
  ERR_STORE_DAMAGED: { exit: 'payload', summary: 'The open store image cannot be read, or its sha256 is wrong' },
  ERR_STORE_EXCHANGED: { exit: 'payload', summary: 'The store image in the bundle is not the one that is open' },
  ERR_STORE_REFUSED: { exit: 'tool', summary: 'The engines of the node do not accept a store image' },
  ERR_CRIO_STORE: { exit: 'partial', summary: 'CRI-O was started before the store was configured, and does not see its images' },
  ERR_STORE_IMAGE: { exit: 'payload', summary: 'A store image lacks an image that it should have' },
  ERR_STORE_DANGLING: { exit: 'failed', summary: 'Records in containers-storage still depend on a store image that is gone' },
  ERR_STORE_PODS: { exit: 'failed', summary: 'Pods depend on the store image, and cannot be stopped before it is closed' },
  ERR_RELEASE_STEP: { exit: 'failed', summary: 'A part of the setup could not be undone' },
  ERR_KEEP_IMAGE: { exit: 'failed', summary: 'An image that a running container uses could not be copied out of the store image' },
  ERR_TRUST: { exit: 'usage', summary: 'The requested kind of trust is not possible here' },
  ERR_STORE_DIGEST: { exit: 'payload', summary: 'The size or hash of a store image differs from the manifest of its bundle' },
  ERR_STORE_MOUNT: { exit: 'payload', summary: 'A store image cannot be mounted' },
  ERR_STORE_UNSUPPORTED: { exit: 'tool', summary: 'The kernel of the node cannot mount an intact store image' },
  ERR_STORE_BUSY: { exit: 'failed', summary: 'An open store cannot be closed, because it is in use' },
  ERR_REGISTRIES: { exit: 'failed', summary: 'The registries configuration cannot be read or rewritten' },
  ERR_MIRROR_UNSIGNED: { exit: 'unsigned', summary: 'A policy requires signatures that the mirror of a node cannot provide' },
  ERR_POLICY_MISSING: { exit: 'unsigned', summary: 'A machine has no signature policy, and without one engines pull nothing' },
  ERR_POLICY_FILE: { exit: 'failed', summary: 'The signature policy of a machine cannot be read' },
  ERR_REGISTRIES_D: { exit: 'failed', summary: 'The files that say where to find signatures cannot be used' },
  ERR_SIGNATURE: { exit: 'payload', summary: 'A signature of an image cannot be read' },
  ERR_ATTACHMENT: { exit: 'payload', summary: 'An attachment of an image cannot be used' },
  ERR_REPORT: { exit: 'failed', summary: 'A report cannot be written' },
  ERR_PLACE: { exit: 'failed', summary: 'A directory of the agent is a link, or users other than root can write to it' },
  ERR_REMOVE: { exit: 'failed', summary: 'A directory is not removed, because the removal could affect something else' },
  ERR_SCRATCH: { exit: 'failed', summary: 'Users other than root could replace the scratch directory' },
  ERR_WORKPLACE: { exit: 'usage', summary: 'Other users could replace the directory that a command works in' },
  ERR_LOCKED: { exit: 'locked', summary: 'Another instance is running' },
  ERR_INTERRUPTED: { exit: 'interrupted', summary: 'The command was interrupted' },
  ERR_FETCH_NETWORK: { exit: 'failed', summary: 'A web server cannot be reached, drops the connection or is overloaded' },
  ERR_FETCH_REFUSED: { exit: 'failed', summary: 'A web server refuses a file or a folder' },
  ERR_FETCH_CONTENT: { exit: 'failed', summary: 'A web server answers with something other than the requested file' },
  ERR_FETCH_INDEX: { exit: 'failed', summary: 'An address has neither the manifest of a bundle nor an index page' },
  ERR_FETCH_WRITE: { exit: 'failed', summary: 'A fetched file cannot be written' },
  ERR_SPACE_FETCH: { exit: 'space', summary: 'There is not enough free space for the files to fetch' },
  ERR_PULL_LOGIN: { exit: 'failed', summary: 'A registry requires a login, or rejects the one that was given' },
  ERR_PULL_DENIED: { exit: 'failed', summary: 'A registry denies these credentials access to an image' },
  ERR_PULL_MISSING: { exit: 'failed', summary: 'A registry does not have the image' },
  ERR_PULL_LIMIT: { exit: 'failed', summary: 'A registry limits the number of requests' },
  ERR_PULL_SERVER: { exit: 'failed', summary: 'A registry answers with a server error' },
  ERR_PULL_NETWORK: { exit: 'failed', summary: 'The connection to a registry fails or stalls' },
  ERR_PULL_TLS: { exit: 'failed', summary: 'The certificate of a registry is not trusted' },
  ERR_PULL_DIGEST: { exit: 'failed', summary: 'A registry sends data of the wrong digest or size' },
  ERR_PULL_UNSIGNED: { exit: 'failed', summary: 'A registry does not have a signature that is required for an image' },
  ERR_PULL_POLICY: { exit: 'failed', summary: 'The signature policy of this machine rejects an image' },
  ERR_PULL: { exit: 'failed', summary: 'An image cannot be pulled for some other reason' },
  ERR_PULL_WRITE: { exit: 'failed', summary: 'The folder to pull into cannot be written' },
  ERR_SPACE_PULL: { exit: 'space', summary: 'There is not enough free space for the images to pull' },
  ERR_NOT_IMAGE: { exit: 'payload', summary: 'An entry of a list or layout is not a container image for Linux' },
  ERR_REFERENCE: { exit: 'payload', summary: 'An image reference is not valid' },
  ERR_MANIFEST: { exit: 'payload', summary: 'An image manifest cannot be read' },
  ERR_IGNITION: { exit: 'usage', summary: 'An ignition override violates the Ignition specification' },
  ERR_IGNITION_NAME: { exit: 'usage', summary: 'Two ignition overrides define the same name, or one uses a name that the system owns' },
  ERR_IGNITION_SIZE: { exit: 'usage', summary: 'An ignition override is too large for the resource that carries it' },
  ERR_CERTIFICATE: { exit: 'usage', summary: 'A certificate, its key or its CA cannot be used or created' },
  ERR_BUILD_INPUT: {
    exit: 'payload',
    summary: 'The folder to build from is neither an OCI image layout nor a folder of archives, or has no list',
  },
  ERR_BUILD_IMAGE: { exit: 'payload', summary: 'A listed image is not in the folder to build from' },
  ERR_BUILD_OUTPUT: { exit: 'usage', summary: 'The folder to build into holds something that is not a bundle' },
  ERR_BUILD_AGENT: { exit: 'usage', summary: 'A file is not a Linux executable of the agent' },
  ERR_BUILD_UNSIGNED: { exit: 'payload', summary: 'A release requires signatures that the folder to build from does not have' },
  ERR_BUILD_STORE: { exit: 'failed', summary: 'A store image cannot be built' },
  ERR_BUILD_PROOF: { exit: 'failed', summary: 'A store image does not contain exactly what was put into it' },
  ERR_SPACE_BUILD: { exit: 'space', summary: 'There is not enough free space to build a bundle' },
  ERR_SYSTEM: {
    exit: 'failed',
    summary: 'The kernel refuses something: the machine lacks a resource, a disk fails, or a path is wrong',
  },
  ERR_SYSTEM_FILE: { exit: 'failed', summary: 'A system file cannot be added or changed safely' },
} as const satisfies Record<string, { exit: ExitName; summary: string }>;

export type ErrorCode = keyof typeof errorTable;

/** Whether a text, from a state file for instance, is a code of this version. */
export function isErrorCode(text: unknown): text is ErrorCode {
  return typeof text === 'string' && Object.hasOwn(errorTable, text);
}

/** The message of any thrown value; a refusal of the kernel in words. */
export function messageOf(thrown: unknown): string {
  const refusal = refusalText(thrown);
  if (refusal !== undefined) return refusal;
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** The process exit code of an error code. */
export function exitCodeOf(code: ErrorCode): number {
  return exitCodes[errorTable[code].exit];
}

/**
 * An error that an operator can act upon: `message` names the thing, what is wrong with it and what was found; `remedy` says what to do next,
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

  /** The process exit code of this error. */
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
 * Any thrown value as an ErrorRecord; one that is neither a PrestageError nor a refusal of the kernel becomes ERR_INTERNAL. If clean-up failed after an error,
 * the record has the code of the first error and the messages of both.
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
  const remedy = refusalRemedy(error);
  if (remedy !== undefined) return { code: 'ERR_SYSTEM', message, remedy };
  return { code: 'ERR_INTERNAL', message, remedy: 'Run prestage-agent report and attach the archive to a bug report' };
}
