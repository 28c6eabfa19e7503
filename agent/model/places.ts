/**
 * The paths of the agent on a node. /run is empty after a reboot; files in /var/lib remain until `release`.
 */

/**
 * The additional image store in the configuration of engines: a directory that always holds a valid empty store, over which the store image
 * is mounted. A missing path would make every podman command fail (containers-storage.conf(5), additionalimagestores).
 */
export const STORE_PATH = '/var/lib/prestage-agent/store';
/** A read-only bind mount of the bundle's directory, for as long as something is served from it. */
export const DATA_PATH = '/run/prestage-agent/data';
/** Our own tmpfs for a store image in memory. */
export const RAM_PATH = '/run/prestage-agent/ram';
/** Store images that were copied to the root disk. */
export const DISK_COPY_PATH = '/var/lib/prestage-agent/images';
/** Further files for a store image on the disk: the bundle's manifest and its metadata tree. */
export const DISK_BUNDLE_PATH = '/var/lib/prestage-agent/bundle';
/** Registry tree of manifests and configs, copied into memory and checked. */
export const MIRROR_PATH = '/run/prestage-agent/mirror';
/** GPG signatures in memory, for images that the registry of this node serves, in the form in which engines look for them. */
export const LOOKASIDE_PATH = '/run/prestage-agent/lookaside';
/** Registry tree that was made from archives on the node. */
export const REGISTRY_PATH = '/var/lib/prestage-agent/registry';
/** A separate storage for the image from which the registry runs, if no store image has it. */
export const REGISTRY_IMAGE_PATH = '/var/lib/prestage-agent/registry-image';
/** Record of the open store and its trust. */
export const STORE_RECORD = '/run/prestage-agent/store.json';
/** Record of the system files that the agent added or changed. */
export const SETUP_RECORD = '/var/lib/prestage-agent/setup.json';
/** Copies of system files from before the agent changed them. */
export const BACKUP_PATH = '/var/lib/prestage-agent/backup';
/** Configuration and certificates of the registry. */
export const REGISTRY_RUN = '/run/prestage-agent/registry';
/** The storage.conf for podman units if /etc/containers/storage.conf does not belong to the agent. */
export const STORAGE_CONF = '/run/prestage-agent/storage.conf';
/** Held by the check of the open store, and by a process that closes it. */
export const CHECK_LOCK = '/run/prestage-agent/check.lock';
/** Record of the process that holds CHECK_LOCK as a check, and of the store that it checks. */
export const CHECK_RECORD = '/run/prestage-agent/check.json';
/** Held by the one command that changes the files of the agent on the node. */
export const RUN_LOCK = '/run/prestage-agent/lock';
/** Held, shared, by whoever writes to containers-storage, also by writers that a killed run left behind. */
export const WRITERS_LOCK = '/run/prestage-agent/writers.lock';
