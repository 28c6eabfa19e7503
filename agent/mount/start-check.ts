import { selfCommand } from '../assets.ts';
import { output } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import type { Step } from '../host/steps.ts';
import { CAPABILITIES, hasSystemd } from '../host/systemd.ts';
import { errorRecord, exitCodes } from '../model/errors.ts';
import { CHECK_STOP_SECONDS, CHECK_UNIT, endCheck, readRunningCheck } from './check-process.ts';
import { findCheckTarget } from './check-target.ts';

const SYSTEMCTL_LIMIT_MS = 30_000;

/**
 * Makes sure that a store whose bytes nobody has checked yet is being checked, and does not wait for the check. A check of this very store that is
 * at work is kept; one of another store is replaced. Only for whoever holds the run lock. Never throws: without a check the node works as well.
 * @returns what a person should know: empty, or why no check is at work
 */
export async function startCheck(host: Host, step: Step): Promise<readonly string[]> {
  try {
    const target = await findCheckTarget(host);
    if (target?.record.verified !== 'pending') return [];
    if ((await readRunningCheck(host))?.target === target.identity) return [];
    await step('start-check', async () => {
      // Given back at once: the new check needs the place.
      await (await endCheck(host))[Symbol.asyncDispose]();
      await (hasSystemd(host) ? startUnit(host) : startProcess(host));
    });
    return [];
  } catch (error) {
    const { message } = errorRecord(error);
    host.log('warning', `the check of the store image did not start: ${message}`);
    return [`nobody checks the bytes of the store image: the check did not start: ${message}; start it with: prestage-agent check-store`];
  }
}

/** A unit of its own outlives the unit that starts it (systemd.kill(5)). */
async function startUnit(host: Host): Promise<void> {
  const bounds = ['IOSchedulingClass=idle', `CapabilityBoundingSet=${CAPABILITIES}`, `TimeoutStopSec=${CHECK_STOP_SECONDS}`];
  // Whoever closes the store ends the check, which is no failure.
  const properties = [...bounds, `SuccessExitStatus=${exitCodes.interrupted}`].map((property) => `--property=${property}`);
  const run = ['--unit', CHECK_UNIT, '--collect', '--quiet', '--nice=19', ...properties, ...commandOf(host)];
  if ((await host.exec('systemd-run', run)).exitCode === 0) return;
  // A check of a store of before may not have come to record itself yet: it has the name of the unit.
  for (const verb of ['stop', 'reset-failed']) await host.exec('systemctl', [verb, CHECK_UNIT], { timeoutMs: SYSTEMCTL_LIMIT_MS });
  await output(host.exec, 'systemd-run', run);
}

async function startProcess(host: Host): Promise<void> {
  const silent = ['sh', '-c', 'exec "$@" >/dev/null 2>&1 </dev/null', 'sh'];
  await output(host.exec, 'setsid', ['--fork', 'nice', '-n', '19', ...silent, ...commandOf(host)]);
}

function commandOf(host: Host): readonly string[] {
  return [...selfCommand(), 'check-store', '--root', host.root];
}
