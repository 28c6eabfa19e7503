import { crioAwareness } from '../engine/crio-store.ts';
import type { RunContext } from '../load/context.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { type PlannedMirrors, removeMirrors, setMirrors } from './mirrors.ts';

/**
 * Puts the metadata mirror of a store in front of the sources, but not while CRI-O does not know the store. Such a CRI-O would take manifests from
 * the mirror and find their layers nowhere: its pulls would fail with "blob unknown to registry", also where the source answers. Then mirrors of an
 * earlier run go as well, and the state says what comes next.
 * @throws PrestageError ERR_SYSTEM_FILE
 */
export async function setStoreMirrors(mirrors: PlannedMirrors, context: RunContext): Promise<void> {
  const { host, store, stage } = context;
  if ((await crioAwareness(host)) !== 'unaware') return await setMirrors(mirrors, context);
  await removeMirrors(context);
  const error = new PrestageError(
    'ERR_CRIO_STORE',
    'CRI-O was started before it was told of the store, and does not see its images: the mirror of the store is not in front of the sources',
    `Restart CRI-O, then start the run again: systemctl restart crio; prestage-agent run --stage ${stage}`,
  );
  host.log('warning', error.message);
  store.update({ error: errorRecord(error) });
}
