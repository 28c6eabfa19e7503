import type { StorageLocation } from '../../storage/records.ts';

/** A storage.conf that knows nothing of this machine: no other stores, no options. Source: containers-storage.conf(5). */
export function storageConfOf({ graphroot, runroot }: StorageLocation): string {
  // A JSON string is a basic string of TOML.
  return `[storage]\ndriver = "overlay"\ngraphroot = ${JSON.stringify(graphroot)}\nrunroot = ${JSON.stringify(runroot)}\n`;
}
