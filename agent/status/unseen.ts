import { type ImageState, isInStorage, type RunState } from '../model/run-state.ts';
import type { StatusFacts } from './facts.ts';
import type { Look, Unseen } from './look.ts';

/** A part of the node that could not be inspected. */
export interface UnseenPart extends Unseen {
  readonly what: string;
}

/** Everything that a run relies on and that could not be inspected. What it does not rely on is left out. Pure. */
export function unseenOf(state: RunState, images: readonly ImageState[], facts: StatusFacts): readonly UnseenPart[] {
  const { storage, store, mirrors, registries, files, crio, isAlive } = facts;
  const hasStore = state.store !== undefined;
  const parts: readonly (readonly [what: string, isNeeded: boolean, look: Look<unknown>])[] = [
    ['the process of the run', state.outcome === undefined, isAlive],
    ['containers-storage', images.some(isInStorage), storage],
    ['the mounted store image', hasStore, store],
    ['the content of the store image', hasStore && store.kind === 'seen' && store.value.open !== undefined, probeOf(store)],
    ['our mirrors in registries.conf', true, mirrors],
    ...registries.map(({ address, answer }) => [`the registry at ${address}`, true, answer] as const),
    ['the files that point engines to the store and the mirrors', hasStore || state.registry !== undefined, files],
    ['whether CRI-O knows the store', hasStore, crio],
  ];
  return parts.flatMap(([what, isNeeded, one]) => (isNeeded && one.kind === 'unseen' ? [{ ...one, what }] : []));
}

function probeOf(store: StatusFacts['store']): Look<unknown> {
  return store.kind === 'unseen' ? store : store.value.probe;
}
