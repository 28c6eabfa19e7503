import { relative } from 'node:path';
import { crioAwareness } from '../engine/crio-store.ts';
import { processStartTicks, readBootId } from '../host/boot.ts';
import { type Host, hostPath } from '../host/host.ts';
import { unitEnds } from '../host/unit-end.ts';
import type { RunState } from '../model/run-state.ts';
import { findDangling } from '../mount/dangling.ts';
import { missingPolicy } from '../signatures/node-policy.ts';
import { readLastState } from '../state/run-record.ts';
import { additionalStores } from '../storage/additional-stores.ts';
import { inspectStorage, readImages, type StorageContents, type StorageLocation } from '../storage/records.ts';
import { assessRun, type StatusReport } from './assess.ts';
import type { StatusFacts, StoreNow } from './facts.ts';
import { changedFiles } from './files-now.ts';
import { type Look, look, seen, type Unseen } from './look.ts';
import { registriesNow } from './registries-now.ts';
import { isDead, storeNow } from './store-now.ts';

/**
 * Reads the record of the last run and the present state of everything that run relies on. Writes nothing, and works during a run, after it, and
 * after a crash. What this user may not read is reported as unseen, not as unchanged.
 */
export async function collectStatus(host: Host): Promise<StatusReport> {
  const bootId = await readBootId();
  const found = await look(async () => await readLastState(host, bootId));
  const state = found.kind === 'unseen' || found.value === 'damaged' ? undefined : found.value;
  const common = {
    isDamaged: found.kind === 'seen' && found.value === 'damaged',
    ...(found.kind === 'unseen' && { stateUnseen: found }),
    architecture: host.architecture,
    units: await unitEnds(host),
  };
  if (state === undefined) return assessRun({ ...common, ...NOTHING });
  const isSameBoot = state.bootId === bootId;
  const isElsewhere = !isSameBoot && (state.root ?? '/') !== host.root;
  return assessRun({ ...common, isSameBoot, state, ...(isElsewhere ? await factsOfDisk(host, state) : await factsOfNode(host, state)) });
}

type Facts = Omit<StatusFacts, 'state' | 'isDamaged' | 'isSameBoot' | 'units' | 'architecture'>;

const NO_RECORD: Unseen = { kind: 'unseen', reason: 'no run has left a record', remedy: 'Start a run' };
const NOTHING: Facts & Pick<StatusFacts, 'state' | 'isSameBoot'> = {
  state: undefined,
  isSameBoot: false,
  isAlive: seen(false),
  storage: NO_RECORD,
  dangling: NO_RECORD,
  store: NO_RECORD,
  mirrors: NO_RECORD,
  registries: [],
  files: NO_RECORD,
  crio: NO_RECORD,
};

async function factsOfNode(host: Host, state: RunState): Promise<Facts> {
  const store = await storeNow(host);
  const [isAlive, storage, dangling, registries, files, crio, policy] = await Promise.all([
    look(async () => await isAliveNow(state)),
    viewStorage(host, state, store),
    danglingNow(host, state, store),
    registriesNow(host, state),
    look(async () => await changedFiles(host)),
    look(async () => await crioAwareness(host)),
    look(async () => await missingPolicy(host)),
  ]);
  const hasNoPolicy = policy.kind === 'seen' && policy.value !== undefined;
  return { isAlive, storage, dangling, store, ...registries, files, crio, ...(hasNoPolicy && { missingPolicy: policy.value }) };
}

/** The root is the disk of another machine, or holds a system of this machine that is not running. Only what lies on the disk can be checked. */
async function factsOfDisk(host: Host, state: RunState): Promise<Facts> {
  const unseen: Unseen = {
    kind: 'unseen',
    reason: `the system below ${host.root} is not the running one`,
    remedy: 'Run this on the node itself: prestage-agent status',
  };
  const registries = state.registry === undefined ? [] : [{ address: state.registry.address, answer: unseen }];
  const storage = state.store === undefined ? await viewStorage(host, state, unseen) : unseen;
  return { isAlive: seen(false), storage, dangling: unseen, store: unseen, mirrors: seen([]), registries, files: unseen, crio: unseen };
}

/** pid and start time together identify a process, since a pid is reused. If /proc hides processes of other users, the answer is unknown. */
async function isAliveNow(state: RunState): Promise<boolean> {
  if ((await processStartTicks(1)) === undefined) throw Object.assign(new Error('processes are hidden'), { code: 'EPERM' });
  return state.bootId === (await readBootId()) && (await processStartTicks(state.pid)) === state.processStartTicks;
}

/** Reads storage and the additional stores. A store that could not be read is not read again: its disk may never answer. */
async function viewStorage(host: Host, state: RunState, store: Look<StoreNow>): Promise<Look<StorageContents>> {
  const { storage } = state;
  if (storage === undefined) return { kind: 'unseen', reason: 'no run has recorded where storage is', remedy: 'Start a run' };
  return await look(async () => {
    const stores = isDead(store) ? [] : await additionalStores(host);
    const contents = await inspectStorage(belowRoot(host, state, storage), stores);
    const beside = await Promise.all(stores.map(async (graphroot) => await readImages({ graphroot, runroot: graphroot })));
    return { ...contents, images: [...contents.images, ...beside.flat()] };
  });
}

/** If the store cannot be read, nothing is known about the records that depend on it. */
async function danglingNow(host: Host, state: RunState, store: Look<StoreNow>): Promise<Look<readonly string[]>> {
  const { storage } = state;
  if (storage === undefined || isDead(store)) return seen([]);
  return await look(async () => {
    const { containers, images, layers } = await findDangling(belowRoot(host, state, storage), await additionalStores(host));
    return [
      ...containers.map(({ title }) => `container ${title}`),
      ...images.map(({ id, names }) => `image ${names[0] ?? id}`),
      ...layers.map(({ id }) => `layer ${id}`),
    ];
  });
}

/** The run that recorded the place may have seen the same disk below another root. */
function belowRoot(host: Host, { root = '/' }: RunState, location: StorageLocation): StorageLocation {
  const move = (path: string): string => {
    const inner = relative(root, path);
    return root === host.root || inner.startsWith('..') ? path : hostPath(host, `/${inner}`);
  };
  return { ...location, graphroot: move(location.graphroot), runroot: move(location.runroot) };
}
