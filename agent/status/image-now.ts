import { type ImageState, isInStorage, type RunState } from '../model/run-state.ts';
import { isPresent } from '../storage/is-present.ts';
import type { StatusFacts } from './facts.ts';

/** An image that the run stored or served is `missing` if it is gone now. If that cannot be checked, the image keeps its recorded state. Pure. */
export function imageNow(image: ImageState, state: RunState, facts: StatusFacts): ImageState {
  const reason = image.state === 'served' ? serverFault(state, facts) : isInStorage(image) ? storageFault(image, state, facts) : undefined;
  return reason === undefined ? image : { ...image, state: 'missing', reason };
}

function serverFault({ registry }: RunState, { registries }: StatusFacts): string | undefined {
  const own = registries.find(({ address }) => address === registry?.address);
  if (own?.answer.kind !== 'seen' || own.answer.value.healthy) return undefined;
  return `the registry that serves it does not answer: ${own.answer.value.reason}`;
}

function storageFault(image: ImageState, state: RunState, facts: StatusFacts): string | undefined {
  const { storage } = facts;
  const fault = storeFault(state, facts);
  if (fault?.kind === 'unreadable') return fault.reason;
  if (storage.kind === 'unseen') return fault?.reason;
  if (isPresent(image, storage.value)) return undefined;
  if (fault !== undefined) return fault.reason;
  const damage = storage.value.images
    .filter((stored) => stored.names.some((name) => image.names.includes(name)))
    .flatMap((stored) => stored.damage)[0];
  return damage === undefined ? 'it is no longer in storage' : `it is damaged: ${damage}`;
}

/** The fault of the store image that the run mounted, if it has one. */
export function storeFault(
  { store }: RunState,
  { store: look, isSameBoot }: StatusFacts,
): { readonly kind: string; readonly reason: string } | undefined {
  if (store === undefined || look.kind === 'unseen') return undefined;
  const { open, probe } = look.value;
  if (open === undefined) {
    const since = isSameBoot ? '' : ': the machine was rebooted after the run';
    return { kind: 'closed', reason: `the store image ${store.image} is not mounted${since}` };
  }
  if (open.sha256 !== store.sha256) {
    return { kind: 'closed', reason: `another store image, ${open.image}, is mounted instead of the one that the run opened` };
  }
  if (probe.kind === 'unseen' || probe.value.kind === 'readable') return undefined;
  return { kind: 'unreadable', reason: `the store image ${open.image} cannot be read: ${probe.value.path}: ${probe.value.reason}` };
}
