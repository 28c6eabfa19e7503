import type { UnitEnd } from '../host/unit-end.ts';
import { exitCodes, TOLERATED } from '../model/errors.ts';

/** What a unit says of a boot in which no run has left a record. */
export interface UnitVerdict {
  readonly readiness: 'running' | 'interrupted' | 'failed';
  readonly reason: string;
  readonly nextStep: string;
  readonly exitCode: number;
}

/** Exit codes from here to 255 are those of systemd itself, such as 203 where it cannot execute a file. Source: systemd.exec(5), "Process Exit Codes". */
const SYSTEMD_CODES = 200;
/** Source: bash(1), EXIT STATUS: a command that is not executable, and one that is not found. */
const NOT_EXECUTABLE = [126, 127];

/**
 * What became of the run of this boot, which has no record: it was ended, or not even started, before it could write one. Undefined where the unit
 * was not started or ended well. Pure.
 */
export function judgeUnit({ unit, stage, how }: UnitEnd): UnitVerdict | undefined {
  const reason = `in this boot no run has left a record: ${describeEnd(unit, how)}`;
  const nextStep = `Look at what it said: journalctl -b -u ${unit}; then start a run: prestage-agent run --stage ${stage}`;
  switch (how.kind) {
    case 'starting':
      return {
        readiness: 'running',
        reason: `${unit} is being started, and has no record yet`,
        nextStep: `Wait for it, or look at what it says: journalctl -b -f -u ${unit}`,
        exitCode: exitCodes.unfinished,
      };
    case 'exit':
      return how.code === 0 ? undefined : { readiness: 'failed', reason, nextStep, exitCode: exitCodeOf(how.code) };
    case 'signal':
    case 'limit':
      return { readiness: 'interrupted', reason, nextStep, exitCode: exitCodes.interrupted };
  }
}

/** How the unit ended, as a clause. Pure. */
export function describeEnd(unit: string, how: UnitEnd['how']): string {
  switch (how.kind) {
    case 'starting':
      return `${unit} is being started`;
    case 'signal':
      return `${unit} was ended by ${how.name}`;
    case 'limit':
      return `systemd ended ${unit}, because it took longer than its TimeoutStartSec`;
    case 'exit':
      return describeExit(unit, how.code);
  }
}

function describeExit(unit: string, code: number): string {
  if (code === 203) return `systemd could not execute the launcher of ${unit} (203/EXEC)`;
  if (code >= SYSTEMD_CODES) return `systemd could not start ${unit} (exit code ${code})`;
  if (NOT_EXECUTABLE.includes(code)) return `the launcher of ${unit} could not execute the agent (exit code ${code})`;
  const own = ownCode(code);
  return own === code
    ? `${unit} ended with the exit code ${code}`
    : `${unit} ended with the exit code ${own}, which the policy open tolerates (${code})`;
}

/** The code as it is in the table, without the mark of the policy `open`. */
function ownCode(code: number): number {
  const own = code - TOLERATED;
  return own >= exitCodes.partial && own <= exitCodes.interrupted ? own : code;
}

/** An end that is not in the table of exit codes is one of a program that the agent needs: the launcher, or the agent's own start. */
function exitCodeOf(code: number): number {
  const own = ownCode(code);
  return own <= exitCodes.interrupted ? own : exitCodes.tool;
}
