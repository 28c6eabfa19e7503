import { readdir, readFile } from 'node:fs/promises';
import { type Host, hostPath } from '../host/host.ts';
import { STORE_PATH } from '../model/places.ts';
import { filesNamingOurStore } from '../storage/additional-stores.ts';

/**
 * What would fail without the directory of the empty store: configurations of others that name it (such as a MachineConfig that owns storage.conf), and
 * podman's monitors of running containers, which were started with it and clean up with the same options when the container ends.
 * Source: podman, libpod/oci_conmon_linux.go, `--exit-command-arg`; proc_pid_cmdline(5).
 */
export async function storeUsers(host: Host): Promise<readonly string[]> {
  const files = await filesNamingOurStore(host);
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const monitors = await Promise.all(
    pids.map(async (pid) => ((await isMonitor(host, pid)) ? [`the monitor of a container (process ${pid})`] : [])),
  );
  return [...files, ...monitors.flat()];
}

async function isMonitor(host: Host, pid: string): Promise<boolean> {
  const args = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
  return args[0]?.endsWith('/conmon') === true && args.some((arg) => arg.endsWith(`imagestore=${hostPath(host, STORE_PATH)}`));
}
