import { execOnLinux, output } from '../../agent/host/exec.ts';

/** What the dynamic loader of a node must provide for an ELF file. */
export interface ElfNeeds {
  /** Processor, as readelf names it (`AArch64`). */
  readonly machine: string;
  /** Shared libraries, sorted. */
  readonly libraries: readonly string[];
  /** Highest version asked for of each kind of symbol version (`GLIBC` -> `2.28`); other names than KIND_N.N.N are kept whole. */
  readonly versions: Readonly<Record<string, string>>;
  /** Whether every segment can be mapped by a kernel with pages of 64 KiB, as OpenShift offers on arm64. */
  readonly fits64KiBPages: boolean;
}

/** Reads an ELF file with readelf(1): header, program headers, dynamic section and version needs. */
export async function readElf(path: string): Promise<ElfNeeds> {
  const text = await output(execOnLinux, 'readelf', ['-W', '-h', '-l', '-d', '-V', path]);
  const loads = [...text.matchAll(/^ +LOAD +0x([0-9a-f]+) 0x([0-9a-f]+)/gm)];
  return {
    machine: /^ +Machine: +(.*)$/m.exec(text)?.[1] ?? '',
    libraries: [...text.matchAll(/\(NEEDED\) +Shared library: \[(.*)\]/g)].map((match) => match[1] ?? '').sort(),
    versions: highestVersions([...text.matchAll(/ Name: (\S+) +Flags:/g)].map((match) => match[1] ?? '')),
    fits64KiBPages: loads.length > 0 && loads.every((match) => (BigInt(`0x${match[2]}`) - BigInt(`0x${match[1]}`)) % 65_536n === 0n),
  };
}

/** Whether version `a` (`2.28`) is at most `b`, compared number by number. */
export function atMost(a: string, b: string): boolean {
  return compareVersions(a, b) <= 0;
}

function highestVersions(names: readonly string[]): Record<string, string> {
  const highest: Record<string, string> = {};
  for (const name of names) {
    const [, kind = name, version = ''] = /^([A-Z]+)_([0-9.]+)$/.exec(name) ?? [];
    if (compareVersions(version, highest[kind] ?? '') >= 0) highest[kind] = version;
  }
  return highest;
}

function compareVersions(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}
