import { existsSync } from 'node:fs';
import type { Act } from '../host/acts.ts';
import { type Host, hostPath } from '../host/host.ts';
import { type ErrorRecord, exitCodeOf, exitCodes } from '../model/errors.ts';
import { STORE_PATH } from '../model/places.ts';
import type { ImageState, RunState } from '../model/run-state.ts';
import { readOpenStore, type StoreRecord } from '../mount/store-record.ts';
import { stopRegistry } from '../registry/serve/service.ts';
import { inspectRecords, type StorageLocation } from '../storage/records.ts';
import { assessStore, probeStore } from '../undo/assess-store.ts';
import { healNode } from '../undo/heal.ts';
import { removeMirrors } from './mirrors.ts';

export interface HealContext {
  readonly host: Host;
  readonly location: StorageLocation;
  readonly act: Act;
}

export interface FailureContext extends HealContext {
  /** The state of the last run in this boot; undefined if there was none. */
  readonly earlier: RunState | undefined;
}

/**
 * Decides about the store of a node when the bundle cannot be delivered: an intact open store stays open, with its images; otherwise the engines
 * are made to work without it.
 * @returns what to change in the state; undefined if no store was ever set up here
 * @throws PrestageError of healNode
 */
export async function healAfterFailure(
  failure: ErrorRecord,
  { host, location, act, earlier }: FailureContext,
): Promise<Partial<RunState> | undefined> {
  const path = hostPath(host, STORE_PATH);
  if (!existsSync(path)) return undefined;
  const open = await readOpenStore(host);
  const verdict = assessStore({ failure, probe: await probeStore(host, { open }), ...(open && { open }) });
  if (verdict.kind === 'heal') {
    const healed = await heal(verdict.error, { host, location, act });
    return { error: saysMore(failure) ? failure : verdict.error, healed: [...healed] };
  }
  return open === undefined ? undefined : await stillOpen(open, path, earlier);
}

/** Whether a failure names what must be corrected: a setting, a lack of room or a program. An error about the store image would hide it. Pure. */
function saysMore({ code }: ErrorRecord): boolean {
  const exit = exitCodeOf(code);
  // The unreadable records are those of the store that is about to be healed.
  return code !== 'ERR_STORAGE' && exit !== exitCodes.partition && exit !== exitCodes.payload;
}

/** What stays usable: as recorded by the run that opened the store, otherwise as the store itself lists it. */
async function stillOpen(open: StoreRecord, path: string, earlier: RunState | undefined): Promise<Partial<RunState>> {
  const { trust, trustReason, placement, image, sha256, verified } = open;
  const store = { path, trust, trustReason, placement, image, sha256, verified };
  if (earlier?.store?.sha256 === sha256) {
    const { payload, delivery, registry, storage, images } = earlier;
    return {
      ...(payload && { payload }),
      ...(delivery && { delivery }),
      ...(registry && { registry }),
      ...(storage && { storage }),
      store,
      images,
    };
  }
  const { images } = await inspectRecords({ graphroot: path });
  return {
    store,
    images: images.map(
      ({ id, names, digests }): ImageState => ({
        reference: names[0] ?? id,
        names: [...names],
        digests: [...digests],
        state: 'present',
        reason: 'it is in the mounted store',
      }),
    ),
  };
}

/** Makes engines work without the store. @returns what was done, for people. @throws PrestageError of healNode */
export async function heal(error: ErrorRecord, { host, location, act }: HealContext): Promise<readonly string[]> {
  const stopMirror = async (): Promise<void> => {
    await removeMirrors({ host, act });
    await stopRegistry(host, act);
  };
  return ['an empty store stands in its place', ...(await healNode(host, { location, error, act, stopMirror }))];
}
