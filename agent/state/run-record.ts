import type { Act } from '../host/acts.ts';
import { writeAtomic } from '../host/atomic.ts';
import { readIfThere } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { type RunState, runStateOf } from '../model/run-state.ts';
import { enterPhase, leaveAct, newTimeline } from '../model/run-timeline.ts';
import { sealRecord, unsealRecord } from '../model/seal.ts';

/** State of the run in memory: gone with the boot, as it should be. */
export const LIVE_STATE = '/run/prestage-agent/state.json';
/** State that survives a reboot. */
export const DURABLE_STATE = '/var/lib/prestage-agent/state.json';
/** Least time between two writes of the live state. */
const LIVE_PERIOD_MS = 1000;

/** Keeps the state of one run and writes it where others read it. */
export interface RunRecord {
  readonly state: RunState;
  /** Steps whose times are kept in the state. */
  timed(act: Act): Act;
  /** Changes the state; it reaches the live file within a second. When phases begin and end is kept with it. */
  update(change: Partial<RunState>): void;
  updateImage(reference: string, change: Partial<RunState['images'][number]>): void;
  /** Adds what is known of the images to those in the state, and to all that come later. */
  describeImages(describe: (images: RunState['images']) => RunState['images']): void;
  /** Writes both files now; the durable one survives a power cut from here on. */
  commit(): Promise<void>;
}

/** @param isDry with true nothing is ever written */
export function createRunRecord(host: Host, initial: RunState, isDry = false): RunRecord {
  const zeroMs = host.clock.monotonicMs();
  const sinceStartMs = (): number => host.clock.monotonicMs() - zeroMs;
  let state = initial;
  let described = (images: RunState['images']): RunState['images'] => images;
  let lastWriteMs = Number.NEGATIVE_INFINITY;
  let writing = Promise.resolve();
  let later: NodeJS.Timeout | undefined;
  const write = async (path: string): Promise<void> => {
    await writeAtomic(hostPath(host, path), sealRecord(state));
  };
  const enqueue = (path: string): Promise<void> => {
    const written = writing.then(async () => await write(path));
    writing = written.catch(() => undefined);
    return written;
  };
  const writeLive = (): void => {
    lastWriteMs = host.clock.monotonicMs();
    enqueue(LIVE_STATE).catch((error: unknown) => host.log('warning', `the live state cannot be written: ${String(error)}`));
  };
  // A change that comes too early is written at the end of the period.
  const live = (): void => {
    if (isDry || later !== undefined) return;
    const waitMs = lastWriteMs + LIVE_PERIOD_MS - host.clock.monotonicMs();
    if (waitMs <= 0) {
      writeLive();
      return;
    }
    later = setTimeout(() => {
      later = undefined;
      writeLive();
    }, waitMs);
    later.unref();
  };
  return {
    get state() {
      return state;
    },
    timed: (act) => async (name, action) => {
      const startMs = sinceStartMs();
      try {
        return await act(name, action);
      } finally {
        state = { ...state, timeline: leaveAct(state.timeline ?? newTimeline, { name, startMs, endMs: sinceStartMs() }) };
        live();
      }
    },
    update: (change) => {
      const { phase = state.phase } = change;
      const timeline = phase === state.phase ? state.timeline : enterPhase(state.timeline ?? newTimeline, phase, sinceStartMs());
      state = { ...state, ...change, ...(change.images && { images: described(change.images) }), ...(timeline && { timeline }) };
      live();
    },
    updateImage: (reference, change) => {
      state = { ...state, images: state.images.map((image) => (image.reference === reference ? { ...image, ...change } : image)) };
      live();
    },
    describeImages: (describe) => {
      described = describe;
      state = { ...state, images: described(state.images) };
    },
    commit: async () => {
      if (isDry) return;
      clearTimeout(later);
      later = undefined;
      await enqueue(DURABLE_STATE);
      await enqueue(LIVE_STATE);
    },
  };
}

/** The state of the last run: the live file if it is of this boot, otherwise the durable one. `damaged` if neither can be trusted. */
export async function readLastState(host: Host, bootId: string): Promise<RunState | 'damaged' | undefined> {
  const live = await readState(host, LIVE_STATE);
  if (live !== undefined && live !== 'damaged' && live.bootId === bootId) return live;
  return (await readState(host, DURABLE_STATE)) ?? live;
}

/** The state in one file; undefined if there is no file, `damaged` if it is cut off, changed or of another version. */
export async function readState(host: Host, path: string): Promise<RunState | 'damaged' | undefined> {
  const text = await readIfThere(hostPath(host, path));
  return text === undefined ? undefined : (runStateOf(unsealRecord(text)) ?? 'damaged');
}
