import { readFile } from 'node:fs/promises';
import type { Act } from '../host/acts.ts';
import { writeAtomic } from '../host/atomic.ts';
import { output } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import { digestOf } from '../model/digest.ts';
import type { Stage } from '../model/stage.ts';
import { putSystemFiles, type SystemFile } from '../system-files/put.ts';
import { crioAwareness } from './crio-store.ts';
import { engineFacts } from './engine-facts.ts';
import { planEngineFiles } from './engine-files.ts';

/** Records for which drop-ins systemd was reloaded in this boot, because a run may be killed between writing and reloading. */
export const RELOADED = '/run/prestage-agent/systemd-reloaded';
export const UNIT_FOLDER = '/run/systemd/system/';
/** systemd reads all units again. It waits for other jobs, but no longer than this. */
export const RELOAD_LIMIT_MS = 90_000;

const OLD_CRIO = 'CRI-O is already running, and looks for stores only when it starts: systemctl restart crio';

/**
 * Makes podman, skopeo and CRI-O see the additional image store. A valid store must exist before, even if it is empty: engines refuse to work with a
 * missing path. Writes nothing if everything is as it should be.
 * @returns the files that were written, and notices for people
 * @throws PrestageError ERR_SYSTEM_FILE, ERR_TOOL_FAILED
 */
export async function setUpEngines(
  host: Host,
  { stage, act }: { readonly stage: Stage; readonly act: Act },
): Promise<{ readonly changed: readonly string[]; readonly notices: readonly string[] }> {
  const facts = engineFacts(host, stage);
  const plan = planEngineFiles(facts, stage);
  const changed = await putSystemFiles(host, plan.files, act);
  const units = plan.files.filter(({ path }) => path.startsWith(UNIT_FOLDER));
  if (host.root === '/' && facts.hasSystemd && units.length > 0) await reloadSystemd(host, units, act);
  // Also if an earlier run wrote the file: CRI-O is unaware until it is restarted.
  const isUnaware = (await crioAwareness(host)) === 'unaware';
  return { changed, notices: isUnaware ? [...plan.notices, OLD_CRIO] : plan.notices };
}

async function reloadSystemd(host: Host, units: readonly SystemFile[], act: Act): Promise<void> {
  const wanted = digestOf(JSON.stringify(units));
  const reloaded = await readFile(hostPath(host, RELOADED), 'utf8').catch(() => undefined);
  if (reloaded === wanted) return;
  await act('reload-systemd', async () => {
    await output(host.exec, 'systemctl', ['daemon-reload'], { timeoutMs: RELOAD_LIMIT_MS });
    await writeAtomic(hostPath(host, RELOADED), wanted);
  });
}
