import { createArchivePool } from '../../agent/extract/pool.ts';
import { linuxHost } from '../../agent/host/linux.ts';
import { crashingStep } from '../../agent/host/steps.ts';
import { closeStore } from '../../agent/mount/close-store.ts';
import { type OpenStoreRequest, openStore } from '../../agent/mount/open-store.ts';

/** A program that opens a store, or closes it, and dies by SIGKILL at one step. */

export interface CrashRequest extends Pick<OpenStoreRequest, 'image' | 'bundleDirectory' | 'placement'> {
  readonly act: 'open' | 'close';
  readonly root: string;
  /** As crashingStep takes it. */
  readonly point: string;
}

const [text = ''] = process.argv.slice(2);
const { act, root, point, ...request }: CrashRequest = JSON.parse(text);
const host = linuxHost({ root, env: {}, log: () => undefined });
const step = crashingStep(point, () => process.kill(process.pid, 'SIGKILL'));
if (act === 'close') await closeStore(host, { step, force: false });
else {
  await using pool = createArchivePool({ size: 1, log: host.log });
  await openStore(host, { ...request, stage: 'installed', trust: 'auto', step, signal: new AbortController().signal, pool });
}
