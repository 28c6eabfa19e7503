import type { StorageLocation } from '../../storage/records.ts';

/** A storage.conf that does not depend on this machine: no other stores, no options. Source: containers-storage.conf(5). */
export function storageConfOf({ graphroot, runroot }: StorageLocation): string {
  // A JSON string is also a basic string in TOML.
  return `[storage]\ndriver = "overlay"\ngraphroot = ${JSON.stringify(graphroot)}\nrunroot = ${JSON.stringify(runroot)}\n`;
}
