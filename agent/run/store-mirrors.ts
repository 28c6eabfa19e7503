import { crioAwareness } from '../engine/crio-store.ts';
import type { RunContext } from '../load/context.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { type PlannedMirrors, removeMirrors, setMirrors } from './mirrors.ts';

/**
 * Makes engines ask the metadata tree of a store before the sources, unless CRI-O does not know the store. Such a CRI-O would take manifests from
 * the mirror and find their layers nowhere: its pulls would fail with "blob unknown to registry", even if the source answers. In that case mirrors of
 * an earlier run are removed as well, and the state says what to do next.
 * @throws PrestageError ERR_SYSTEM_FILE
 */
export async function setStoreMirrors(mirrors: PlannedMirrors, context: RunContext): Promise<void> {
  const { host, record, stage } = context;
  if ((await crioAwareness(host)) !== 'unaware') return await setMirrors(mirrors, context);
  await removeMirrors(context);
  const error = new PrestageError(
    'ERR_CRIO_STORE',
    'CRI-O was started before the store was configured, and does not see its images: the mirror of the store is not used',
    `Restart CRI-O, then start the run again: systemctl restart crio; prestage-agent run --stage ${stage}`,
  );
  host.log('warning', error.message);
  record.update({ error: errorRecord(error) });
}
