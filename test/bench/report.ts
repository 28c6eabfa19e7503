import { formatBytes } from '../../agent/model/bytes.ts';
import type { Measurement } from './measure.ts';

/** All that one bench found out. Where a part was left out by --only, it is undefined. */
export interface Findings {
  readonly set: {
    readonly images: number;
    readonly archiveBytes: number;
    /** As `podman images` shows it: unpacked. */
    readonly biggestImageBytes: number;
    readonly layerBytes: number;
    readonly unpackedBytes: number;
  };
  readonly oneAtATime?: Measurement;
  readonly fourAtATime?: Measurement;
  readonly agent?: Measurement;
  readonly skopeo?: Measurement;
  /** Median of `--version`, milliseconds. */
  readonly startupMs?: number;
  /** A run over 180 images that are all there, seconds. */
  readonly noopSeconds?: number;
  /** What the parts of the factory found out, each with its own bars. */
  readonly factory?: readonly PartFindings[];
}

/** What one part found out by itself. */
export interface PartFindings {
  /** Seconds until images of the set can be used, to be held against the prototype's. */
  readonly usableSeconds?: number;
  readonly rows: readonly (readonly [string, Measurement])[];
  readonly bars: readonly Bar[];
}

export interface Bar {
  readonly what: string;
  readonly got: number;
  readonly wanted: number;
  /** Whether `got` has to reach `wanted`, or may not pass it. */
  readonly kind: 'least' | 'most';
  readonly unit: 'times' | 'bytes' | 'ms' | 's';
}

const MIB = 1024 * 1024;

/** The bars that the findings can be held against. Pure. */
export function barsOf(findings: Findings): readonly Bar[] {
  const { set, oneAtATime, fourAtATime, agent, startupMs, noopSeconds } = findings;
  const bars: Bar[] = [];
  if (agent && oneAtATime) {
    bars.push({
      what: 'faster than the prototype one at a time',
      got: oneAtATime.wallSeconds / agent.wallSeconds,
      wanted: 1.7,
      kind: 'least',
      unit: 'times',
    });
  }
  if (agent && fourAtATime) {
    bars.push({
      what: 'faster than the prototype four at a time',
      got: fourAtATime.wallSeconds / agent.wallSeconds,
      wanted: 1.25,
      kind: 'least',
      unit: 'times',
    });
  }
  const prototypes = [oneAtATime, fourAtATime].flatMap((found) => (found === undefined ? [] : [found.writtenBytes]));
  if (agent && prototypes.length > 0) {
    // What is cancelled counts as written: how much of it never comes to the disk depends on the memory of the machine and on luck.
    const got = agent.writtenBytes / Math.min(...prototypes);
    bars.push({ what: 'written, of what the prototype writes', got, wanted: 0.5, kind: 'most', unit: 'times' });
  }
  if (agent) {
    bars.push({ what: 'memory of the agent itself', got: agent.peakRssBytes, wanted: 200 * MIB, kind: 'most', unit: 'bytes' });
    bars.push({
      what: 'scratch with skopeo’s own copies, against the biggest image',
      got: agent.peakScratchBytes,
      wanted: set.biggestImageBytes,
      kind: 'most',
      unit: 'bytes',
    });
  }
  if (startupMs !== undefined) bars.push({ what: 'start to --version', got: startupMs, wanted: 150, kind: 'most', unit: 'ms' });
  if (noopSeconds !== undefined) bars.push({ what: 'second run over 180 images', got: noopSeconds, wanted: 2, kind: 'most', unit: 's' });
  const usableSeconds = findings.factory?.find((part) => part.usableSeconds !== undefined)?.usableSeconds;
  if (oneAtATime && usableSeconds !== undefined) {
    const got = oneAtATime.wallSeconds / usableSeconds;
    bars.push({ what: 'mount: faster than the prototype one at a time', got, wanted: 50, kind: 'least', unit: 'times' });
  }
  return [...bars, ...(findings.factory ?? []).flatMap((part) => part.bars)];
}

/** Whether a bar is held. */
export function isHeld(bar: Bar): boolean {
  return bar.kind === 'least' ? bar.got >= bar.wanted : bar.got <= bar.wanted;
}

/** The findings for people. */
export function renderFindings(findings: Findings): string {
  const { set } = findings;
  const lines = [
    `set: ${set.images} images, ${formatBytes(set.unpackedBytes)} unpacked, ${formatBytes(set.layerBytes)} as layers, ${formatBytes(set.archiveBytes)} as archives`,
    '',
    row(['', 'wall s', 'durable s', 'CPU s', 'others s', 'written', 'cancelled', 'device', 'peak RSS', 'scratch']),
    ...contenders(findings).map(([name, found]) => row([name, ...cells(found)])),
    '(others: CPU of the rest of the machine; written: pages of files made dirty, of that cancelled: removed before they came to the disk;',
    ' device: what the disk took, from the rest of the machine, too; peak RSS: of the program itself, of the prototype its shell)',
    '',
    ...barsOf(findings).map(
      (bar) => `${isHeld(bar) ? 'PASS' : 'FAIL'}  ${bar.what}: ${amount(bar, bar.got)} (at ${bar.kind} ${amount(bar, bar.wanted)})`,
    ),
  ];
  return `${lines.join('\n')}\n`;
}

function contenders({ oneAtATime, fourAtATime, skopeo, agent, factory = [] }: Findings): readonly (readonly [string, Measurement])[] {
  const all = [
    ['prototype, one at a time', oneAtATime],
    ['prototype, four at a time', fourAtATime],
    ['skopeo alone, unpacked', skopeo],
    ['prestage-agent run', agent],
  ] as const;
  return [
    ...all.flatMap(([name, found]) => (found === undefined ? [] : [[name, found] as const])),
    ...factory.flatMap((part) => part.rows),
  ];
}

function cells(found: Measurement): readonly string[] {
  const seconds = [found.wallSeconds, found.durableSeconds, found.cpuSeconds, found.othersCpuSeconds].map((value) => value.toFixed(1));
  const bytes = [found.writtenBytes, found.cancelledBytes, found.deviceBytes, found.peakRssBytes, found.peakScratchBytes];
  return [...seconds, ...bytes.map((value) => (value === 0 ? '-' : formatBytes(value)))];
}

function row(words: readonly string[]): string {
  return words.map((word, index) => (index === 0 ? word.padEnd(26) : word.padStart(10))).join(' ');
}

function amount(bar: Bar, value: number): string {
  if (bar.unit === 'bytes') return formatBytes(value);
  return bar.unit === 'times' ? `${value.toFixed(2)} times` : `${value.toFixed(bar.unit === 'ms' ? 0 : 2)} ${bar.unit}`;
}
