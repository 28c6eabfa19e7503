import type { UnitEnd } from '../host/unit-end.ts';
import { exitCodes, TOLERATED } from '../model/errors.ts';

/** The verdict on a boot without a record of a run, from how the unit ended. */
export interface UnitVerdict {
  readonly readiness: 'running' | 'interrupted' | 'failed';
  readonly reason: string;
  readonly nextStep: string;
  readonly exitCode: number;
}

/** Exit codes from here to 255 are those of systemd itself, such as 203 if it cannot execute a file. Source: systemd.exec(5), "Process Exit Codes". */
const SYSTEMD_CODES = 200;
/** Source: bash(1), EXIT STATUS: a command that is not executable, and one that is not found. */
const NOT_EXECUTABLE = [126, 127];

/**
 * Judges a boot in which a run has left no record, because it was ended, or never started, before it could write one. Undefined if the unit was
 * not started, or succeeded. Pure.
 */
export function judgeUnit({ unit, stage, how }: UnitEnd): UnitVerdict | undefined {
  const reason = `no run has left a record in this boot: ${describeEnd(unit, how)}`;
  const nextStep = `Read its log: journalctl -b -u ${unit}; then start a run: prestage-agent run --stage ${stage}`;
  switch (how.kind) {
    case 'starting':
      return {
        readiness: 'running',
        reason: `${unit} is starting and has not written a record yet`,
        nextStep: `Wait for it, or follow its log: journalctl -b -f -u ${unit}`,
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
      return `${unit} is starting`;
    case 'signal':
      return `${unit} was terminated by ${how.name}`;
    case 'limit':
      return `systemd stopped ${unit} because it exceeded TimeoutStartSec`;
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
    ? `${unit} ended with exit code ${code}`
    : `${unit} ended with exit code ${own}, which the policy open tolerates (${code})`;
}

/** The code as in the table of exit codes, without the number that the policy `open` adds. */
function ownCode(code: number): number {
  const own = code - TOLERATED;
  return own >= exitCodes.partial && own <= exitCodes.interrupted ? own : code;
}

/** A code outside the table comes from a program that the agent needs: the launcher, or the start of the agent itself. */
function exitCodeOf(code: number): number {
  const own = ownCode(code);
  return own <= exitCodes.interrupted ? own : exitCodes.tool;
}
