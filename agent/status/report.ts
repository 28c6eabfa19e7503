import { version } from '../assets.ts';
import type { Host } from '../host/host.ts';
import { STATUS_VERSION } from './assess.ts';
import { knownSecrets } from './known-secrets.ts';
import { redact } from './redact.ts';
import { type RawPart, readParts } from './report-parts.ts';

/** Largest report, in bytes before compression. */
const REPORT_LIMIT_BYTES = 16 * 1024 * 1024;

/** Entry of one file in the index of a report. */
export interface ReportEntry {
  /** Path inside the report. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Bytes left out because the part was too long. */
  readonly cutBytes?: number;
  /** Why the file is missing. */
  readonly fault?: string;
}

/** Content of a report; stored in it as index.json. */
export interface ReportIndex {
  readonly apiVersion: typeof STATUS_VERSION;
  readonly kind: 'Report';
  readonly agentVersion: string;
  /** ISO 8601, by the clock of the machine. */
  readonly madeAt: string;
  readonly parts: readonly ReportEntry[];
}

export interface ReportFile {
  readonly name: string;
  readonly text: string;
}

export interface Report {
  readonly index: ReportIndex;
  /** Without secrets; index.json is the first. */
  readonly files: readonly ReportFile[];
}

/**
 * Collects what is needed to work on a ticket: status, records, settings, versions of tools, mounts, the journal of our units, the configuration of
 * engines. Changes nothing on the machine. Without root it contains what this user can read. Hides logins, keys and whatever looks like one.
 */
export async function makeReport(host: Host): Promise<Report> {
  const [parts, secrets] = await Promise.all([readParts(host), knownSecrets(host)]);
  const { files, entries } = withinLimit(
    parts.map((part) => ({
      ...part,
      text: redact(part.text, secrets),
      ...(part.fault !== undefined && { fault: redact(part.fault, secrets) }),
    })),
  );
  const index: ReportIndex = {
    apiVersion: STATUS_VERSION,
    kind: 'Report',
    agentVersion: version,
    madeAt: host.clock.now().toISOString(),
    parts: entries,
  };
  return { index, files: [{ name: 'index.json', text: `${JSON.stringify(index, undefined, 2)}\n` }, ...files] };
}

/** The parts that fit, in their order. Pure. */
function withinLimit(parts: readonly RawPart[]): { readonly files: readonly ReportFile[]; readonly entries: readonly ReportEntry[] } {
  const files: ReportFile[] = [];
  const entries: ReportEntry[] = [];
  let left = REPORT_LIMIT_BYTES;
  for (const { name, text, cutBytes, fault } of parts) {
    const sizeBytes = Buffer.byteLength(text);
    const reason = fault ?? (sizeBytes > left ? `left out: the report would exceed ${REPORT_LIMIT_BYTES} bytes` : undefined);
    if (reason !== undefined) {
      entries.push({ name, sizeBytes: 0, fault: reason });
      continue;
    }
    left -= sizeBytes;
    files.push({ name, text });
    entries.push({ name, sizeBytes, ...(cutBytes > 0 && { cutBytes }) });
  }
  return { files, entries };
}
