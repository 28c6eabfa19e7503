import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { output } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';

const UNIT = 'crio.service';
/** Records which files CRI-O was told about in this boot, because a run may be killed between writing and telling. */
export const CRIO_TOLD = '/run/prestage-agent/crio-told';

/**
 * Makes a running CRI-O read registries.conf and its drop-ins again, by SIGHUP; nothing is restarted. Source: crio(8), "Reload"; systemctl(1), show.
 * @returns `not-running` also if there is no systemd, or no CRI-O on this machine
 * @throws PrestageError ERR_TOOL_FAILED if systemd does not answer
 */
export async function reloadCrio(host: Host): Promise<'reloaded' | 'not-running'> {
  // sd_booted(3): this directory exists only if systemd runs the machine.
  if (!existsSync(hostPath(host, '/run/systemd/system'))) return 'not-running';
  const pid = mainPid(await output(host.exec, 'systemctl', ['show', '--property=MainPID', UNIT], { timeoutMs: 10_000 }));
  // CRI-O can end between the answer and the signal; another process must not get the signal.
  if (pid === undefined || (await commandOf(pid)) !== 'crio') return 'not-running';
  return signal(pid);
}

/** The process in `MainPID=1234`; 0 means that there is none. */
export function mainPid(text: string): number | undefined {
  const pid = Number(/^MainPID=(\d+)$/m.exec(text)?.[1] ?? 0);
  return pid > 1 ? pid : undefined;
}

/** Source: proc_pid_comm(5). */
async function commandOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/comm`, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return undefined;
    throw error;
  });
  return text?.trim();
}

function signal(pid: number): 'reloaded' | 'not-running' {
  try {
    process.kill(pid, 'SIGHUP');
    return 'reloaded';
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return 'not-running';
    throw error;
  }
}
