import { constants } from 'node:os';
import { STAGES, type Stage } from '../model/stage.ts';
import type { Host } from './host.ts';
import { hasSystemd } from './systemd.ts';

/** The state of the unit of a stage in this boot. */
export interface UnitEnd {
  /** `prestage-agent-STAGE.service`. */
  readonly unit: string;
  readonly stage: Stage;
  /** Of its main process, which is first the launcher and then the agent; 0 if there was none. */
  readonly pid: number;
  /** `limit`: systemd stopped it because it exceeded its time limit. */
  readonly how:
    | { readonly kind: 'starting' }
    | { readonly kind: 'exit'; readonly code: number }
    | { readonly kind: 'signal'; readonly name: string }
    | { readonly kind: 'limit' };
}

const PROPERTIES = ['Id', 'ActiveState', 'Result', 'ExecMainPID', 'ExecMainCode', 'ExecMainStatus'];
const LIMIT_MS = 10_000;

/**
 * What systemd knows about the agent's units in this boot, including a unit that ended before the agent could write anything, or could not be
 * executed. Any user can ask. Units that were not started are left out; the list is empty if systemd does not answer.
 */
export async function unitEnds(host: Host): Promise<readonly UnitEnd[]> {
  if (!hasSystemd(host)) return [];
  const units = STAGES.map(unitOf);
  const shown = await host
    .exec('systemctl', ['show', `--property=${PROPERTIES.join(',')}`, ...units], { timeoutMs: LIMIT_MS })
    .catch(() => undefined);
  return shown?.exitCode === 0 ? readUnitEnds(shown.stdout) : [];
}

function unitOf(stage: Stage): string {
  return `prestage-agent-${stage}.service`;
}

/** The answer of `systemctl show` for several units. Pure. Source: systemctl(1), show; org.freedesktop.systemd1(5), "Service Unit Objects". */
export function readUnitEnds(text: string): readonly UnitEnd[] {
  return text.split(/\n{2,}/).flatMap((block) => {
    const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(block)?.[1] ?? '';
    const stage = STAGES.find((one) => unitOf(one) === value('Id'));
    const how = howItEnded(value);
    return stage === undefined || how === undefined ? [] : [{ unit: unitOf(stage), stage, pid: Number(value('ExecMainPID')), how }];
  });
}

/** `ExecMainCode` is the si_code of SIGCHLD: 1 exited, 2 killed, 3 dumped. Source: sigaction(2). */
function howItEnded(value: (name: string) => string): UnitEnd['how'] | undefined {
  if (['activating', 'reloading'].includes(value('ActiveState'))) return { kind: 'starting' };
  const status = Number(value('ExecMainStatus'));
  switch (value('ExecMainCode')) {
    case '1':
      return value('Result') === 'timeout' ? { kind: 'limit' } : { kind: 'exit', code: status };
    case '2':
    case '3':
      return value('Result') === 'timeout' ? { kind: 'limit' } : { kind: 'signal', name: signalName(status) };
    default:
      return undefined;
  }
}

function signalName(number: number): string {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`;
}
