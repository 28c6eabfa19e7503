/**
 * Where the agent keeps its things on a node. What lies in /run is gone with the boot; what lies in /var/lib stays until `release`.
 */

/**
 * The additional image store that engines are told of: a directory that always holds a valid empty store, and over which the store image is
 * mounted. A path that is missing would make every podman command fail (containers-storage.conf(5), additionalimagestores).
 */
export const STORE_PATH = '/var/lib/prestage-agent/store';
/** The bundle's directory, bound read-only for as long as something is served from it. */
export const DATA_PATH = '/run/prestage-agent/data';
/** A tmpfs of our own for a store image that is held in memory. */
export const RAM_PATH = '/run/prestage-agent/ram';
/** Store images that were copied to the root disk. */
export const DISK_COPY_PATH = '/var/lib/prestage-agent/images';
/** What a store image on the disk needs besides: the bundle's manifest and its metadata mirror. */
export const DISK_BUNDLE_PATH = '/var/lib/prestage-agent/bundle';
/** Registry tree of manifests and configs, copied into memory and checked. */
export const MIRROR_PATH = '/run/prestage-agent/mirror';
/** GPG signatures in memory, as engines look for those of images that the registry of this node serves. */
export const LOOKASIDE_PATH = '/run/prestage-agent/lookaside';
/** Registry tree that was made on the node out of archives. */
export const REGISTRY_PATH = '/var/lib/prestage-agent/registry';
/** A storage of its own for the image that the registry runs from where no store image has it. */
export const REGISTRY_IMAGE_PATH = '/var/lib/prestage-agent/registry-image';
/** What the open store is, and how it is trusted. */
export const STORE_RECORD = '/run/prestage-agent/store.json';
/** Files of the system that the agent added or changed. */
export const SETUP_RECORD = '/var/lib/prestage-agent/setup.json';
/** Files of the system as they were before the agent changed them. */
export const BACKUP_PATH = '/var/lib/prestage-agent/backup';
/** Configuration and certificates of the registry. */
export const REGISTRY_RUN = '/run/prestage-agent/registry';
/** The storage.conf that podman units are pointed to where /etc/containers/storage.conf belongs to somebody else. */
export const STORAGE_CONF = '/run/prestage-agent/storage.conf';
/** Held by the one check of the open store, and by whoever closes it. */
export const CHECK_LOCK = '/run/prestage-agent/check.lock';
/** The process that holds CHECK_LOCK as a check, and what it checks. */
export const CHECK_RECORD = '/run/prestage-agent/check.json';
/** Held by the one command that changes what the agent keeps on the node. */
export const RUN_LOCK = '/run/prestage-agent/lock';
/** Held, shared, by whoever writes to containers-storage, also by writers that a killed run left behind. */
export const WRITERS_LOCK = '/run/prestage-agent/writers.lock';
