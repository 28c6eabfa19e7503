import type { StatusReport } from '../../agent/status/assess.ts';
import { unitTimes } from './journal.ts';
import type { RunsPrograms } from './machine.ts';

/** How our unit of a stage ended in this boot. Source: systemctl(1), show. */
export interface UnitFacts {
  readonly activeState: string;
  readonly result: string;
  readonly exitCode: number;
  /** From the start of its process to its end. */
  readonly seconds: number;
}

export async function unitFacts(machine: RunsPrograms, unit: string): Promise<UnitFacts> {
  const names = ['ActiveState', 'Result', 'ExecMainStatus', 'ExecMainStartTimestampMonotonic', 'ExecMainExitTimestampMonotonic'];
  const shown = await machine.output(['systemctl', 'show', unit, `--property=${names.join(',')}`]);
  const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(shown)?.[1] ?? '';
  const at = (name: string): number => Number(value(`ExecMain${name}TimestampMonotonic`));
  return {
    activeState: value('ActiveState'),
    result: value('Result'),
    exitCode: Number(value('ExecMainStatus')),
    seconds: (at('Exit') - at('Start')) / 1e6,
  };
}

/** The pairs of units, first and second, of which the second began to start before the first had started. */
export async function outOfOrder(journal: string, pairs: readonly (readonly [string, string])[]): Promise<readonly string[]> {
  const times = await unitTimes(journal);
  return pairs.flatMap(([first, second]) => {
    const ended = times.get(first)?.startedMs ?? times.get(first)?.failedMs;
    const began = times.get(second)?.startingMs;
    if (ended === undefined) return [`${first} did not start`];
    if (began === undefined) return [`${second} did not begin to start`];
    return ended <= began ? [] : [`${first} had started at ${ended} ms, ${second} began at ${began} ms`];
  });
}

/** The machine-readable answer of `prestage-agent status` in a machine. @param agent where the executable lies in it */
export async function statusOf(machine: RunsPrograms, agent = '/usr/local/bin/prestage-agent'): Promise<StatusReport['status']> {
  const { stdout, stderr } = await machine.run([agent, 'status', '--output', 'json']);
  if (stdout === '') throw new Error(`status said nothing but ${stderr}`);
  const report: StatusReport = JSON.parse(stdout);
  return report.status;
}

export async function failedUnits(machine: RunsPrograms): Promise<readonly string[]> {
  const text = await machine.output(['systemctl', 'list-units', '--failed', '--plain', '--no-legend', '--no-pager']);
  return text.split('\n').flatMap((line) => line.split(' ')[0] || []);
}
