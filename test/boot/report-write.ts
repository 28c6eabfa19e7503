import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { formatBytes } from '../../agent/model/bytes.ts';
import { commitOfSources, readFigures } from '../support/figures.ts';
import { readLife } from '../support/vm-life.ts';
import { IGNITION } from './ignition.ts';
import { renderReport } from './report.ts';
import { nodeRoot } from './root.ts';
import { renderTimeline } from './timeline-svg.ts';
import type { Outcome } from './trial.ts';

/** What the name of the scenario of which the pictures are begins with. */
export const PICTURED = 'mount, ram then partition';
/** Its boots that have pictures, by what they are. */
const PICTURES = [
  { what: 'discovery', title: 'Discovery: the store image is copied to memory', file: 'boot-timeline-discovery.svg' },
  { what: 'first boot and pivot', title: 'First boot of the installed node, up to the pivot', file: 'boot-timeline-installed.svg' },
] as const;

export interface ReportRequest {
  readonly file: string;
  readonly executable: string;
  readonly outcomes: readonly Outcome[];
  readonly jobs: number;
  readonly scenarioCount: number;
}

/** Writes the report, and its pictures beside it where their scenario was run. */
export async function writeReport({ file, executable, ...ran }: ReportRequest): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  const boots = ran.outcomes.find(({ name }) => name.startsWith(PICTURED))?.boots ?? [];
  const pictures = PICTURES.flatMap(({ what, ...picture }) => {
    const timeline = boots.find((boot) => boot.what === what)?.timeline;
    return timeline === undefined ? [] : [{ ...picture, svg: renderTimeline(picture.title, timeline) }];
  });
  for (const picture of pictures) await writeFile(join(dirname(file), picture.file), picture.svg);
  const report = {
    at: new Date().toISOString(),
    commit: await commitOfSources(),
    versions: await versionsOf(executable),
    ...ran,
    figures: await readFigures(),
    life: await readLife(),
    pictures,
  };
  await writeFile(file, renderReport(report));
}

/** Programs of the machines' root: podman and crun do nothing without a /proc. Source: unshare(1). */
const IN_ROOT = { systemd: 'systemctl', podman: 'podman', crun: 'crun' } as const;
const OWN_PROC = ['--mount', '--pid', '--fork', '--mount-proc'];

async function versionsOf(executable: string): Promise<Readonly<Record<string, string>>> {
  const root = await nodeRoot();
  const told = async (program: string, args: readonly string[]): Promise<string> => {
    const text = await output(execOnLinux, program, [...args, '--version'], { env: { NO_COLOR: '1' } });
    // The name of the program comes first, and what else it was built with in further lines.
    return (text.split('\n')[0] ?? '').replace(/^\D+/, '').trim();
  };
  const inRoot = Object.entries(IN_ROOT).map(
    async ([name, program]) => [name, await told('unshare', [...OWN_PROC, `--root=${root}`, program])] as const,
  );
  return {
    'prestage-agent': await told(executable, []),
    kernel: release(),
    ...Object.fromEntries(await Promise.all(inRoot)),
    Ignition: await told(IGNITION, []),
    machine: `${availableParallelism()} cores (${cpus()[0]?.model.trim() ?? 'unknown'}), ${formatBytes(totalmem())} of memory, load at the end ${loadavg()[0]?.toFixed(1)}`,
  };
}
