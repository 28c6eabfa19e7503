import { createArchivePool } from '../../agent/extract/pool.ts';
import { crashingAct } from '../../agent/host/acts.ts';
import { linuxHost } from '../../agent/host/linux.ts';
import { closeStore } from '../../agent/mount/close-store.ts';
import { type OpenStoreRequest, openStore } from '../../agent/mount/open-store.ts';

/** A program that opens a store, or closes it, and dies by SIGKILL at one step. */

export interface CrashRequest extends Pick<OpenStoreRequest, 'image' | 'bundleDirectory' | 'placement'> {
  readonly wanted: 'open' | 'close';
  readonly root: string;
  /** As crashingAct takes it. */
  readonly point: string;
}

const [text = ''] = process.argv.slice(2);
const { wanted, root, point, ...request }: CrashRequest = JSON.parse(text);
const host = linuxHost({ root, env: {}, log: () => undefined });
const act = crashingAct(point, () => process.kill(process.pid, 'SIGKILL'));
if (wanted === 'close') await closeStore(host, { act, force: false });
else {
  await using pool = createArchivePool({ size: 1, log: host.log });
  await openStore(host, { ...request, stage: 'installed', trust: 'auto', act, signal: new AbortController().signal, pool });
}
