import { selfCommand } from '../assets.ts';
import type { Act } from '../host/acts.ts';
import { output } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import { CAPABILITIES, hasSystemd } from '../host/systemd.ts';
import { errorRecord, exitCodes } from '../model/errors.ts';
import { CHECK_STOP_SECONDS, CHECK_UNIT, endCheck, readRunningCheck } from './check-process.ts';
import { findCheckTarget } from './check-target.ts';

const SYSTEMCTL_LIMIT_MS = 30_000;

/**
 * Makes sure that a check of an unchecked store is running, and does not wait for it. A running check of the same store is kept; one of another store
 * is replaced. The caller must hold the run lock. Never throws: the node also works without a check.
 * @returns notices for people: empty, or why no check is running
 */
export async function startCheck(host: Host, act: Act): Promise<readonly string[]> {
  try {
    const target = await findCheckTarget(host);
    if (target?.record.verified !== 'pending') return [];
    if ((await readRunningCheck(host))?.target === target.identity) return [];
    await act('start-check', async () => {
      // Released at once, because the new check needs this lock.
      await (await endCheck(host))[Symbol.asyncDispose]();
      await (hasSystemd(host) ? startUnit(host) : startProcess(host));
    });
    return [];
  } catch (error) {
    const { message } = errorRecord(error);
    host.log('warning', `the check of the store image did not start: ${message}`);
    return [
      `the bytes of the store image are not checked, because the check did not start: ${message}; start it with: prestage-agent check-store`,
    ];
  }
}

/** A unit of its own outlives the unit that starts it (systemd.kill(5)). */
async function startUnit(host: Host): Promise<void> {
  const bounds = ['IOSchedulingClass=idle', `CapabilityBoundingSet=${CAPABILITIES}`, `TimeoutStopSec=${CHECK_STOP_SECONDS}`];
  // Closing the store ends the check, which is not a failure.
  const properties = [...bounds, `SuccessExitStatus=${exitCodes.interrupted}`].map((property) => `--property=${property}`);
  const run = ['--unit', CHECK_UNIT, '--collect', '--quiet', '--nice=19', ...properties, ...commandOf(host)];
  if ((await host.exec('systemd-run', run)).exitCode === 0) return;
  // A check of an earlier store may not have recorded itself yet, but already uses the name of the unit.
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
