import { type ErrorRecord, exitCodes } from '../model/errors.ts';
import { countStates, type ImageState, type RunState } from '../model/run-state.ts';
import type { Verified } from '../model/store.ts';
import type { StatusFacts } from './facts.ts';
import { imageNow } from './image-now.ts';
import { judgeRun, type Verdict } from './judge.ts';
import { judgeUnit } from './unit-end.ts';
import { type UnseenPart, unseenOf } from './unseen.ts';

export const STATUS_VERSION = 'prestage-agent/v1';

/** The versioned answer of `status`; docs/status.schema.json describes it. Sizes are bytes, durations milliseconds. */
export interface StatusReport {
  readonly apiVersion: typeof STATUS_VERSION;
  readonly kind: 'Status';
  readonly status: Verdict & {
    /** Whether storage was looked at for this answer; without root it may not be readable. */
    readonly storageChecked: boolean;
    /** What the run relies on and could not be checked; left out if empty. */
    readonly unseen?: readonly Pick<UnseenPart, 'what' | 'reason'>[];
    readonly counts: ReturnType<typeof countStates>;
    readonly run?: Omit<RunState, 'apiVersion' | 'kind' | 'images' | 'unsynced' | 'suspect'>;
    readonly images: readonly ImageState[];
    readonly lastError?: ErrorRecord;
  };
}

/** Decides the status. Pure: the same facts give the same answer. */
export function assessRun(facts: StatusFacts): StatusReport {
  const { state } = facts;
  // A record of another boot says nothing about a run of this boot that ended before it wrote its own.
  const [ended] = facts.isSameBoot || facts.stateUnseen !== undefined ? [] : (facts.units ?? []).flatMap((unit) => judgeUnit(unit) ?? []);
  if (state === undefined) return report(ended ?? withoutRecord(facts), { images: [], unseen: [], facts });
  const images = state.images.map((image) => imageNow(image, state, facts));
  const unseen = unseenOf(state, images, facts);
  return report(ended ?? judgeRun({ state, images, unseen, facts }), { images, unseen, facts });
}

function withoutRecord({ isDamaged, stateUnseen }: StatusFacts): Verdict {
  if (stateUnseen !== undefined) {
    return {
      readiness: 'unknown',
      reason: `the record of the last run cannot be read: ${stateUnseen.reason}`,
      nextStep: stateUnseen.remedy,
      exitCode: exitCodes.unknown,
    };
  }
  return {
    readiness: 'never-run',
    reason: isDamaged ? 'the record of the last run is damaged' : 'no run has left a record on this machine',
    nextStep: 'Start a run: prestage-agent run --stage discovery, or check the units: systemctl status "prestage-agent*"',
    exitCode: exitCodes.unfinished,
  };
}

interface Found {
  readonly images: readonly ImageState[];
  readonly unseen: readonly UnseenPart[];
  readonly facts: StatusFacts;
}

function report(verdict: Verdict, { images, unseen, facts }: Found): StatusReport {
  const lastError =
    facts.state?.error ?? facts.missingPolicy ?? facts.state?.withheld ?? images.find((image) => image.error !== undefined)?.error;
  const run = facts.state === undefined ? undefined : withoutLists(facts.state, facts.store);
  return {
    apiVersion: STATUS_VERSION,
    kind: 'Status',
    status: {
      ...verdict,
      storageChecked: facts.storage.kind === 'seen',
      ...(unseen.length > 0 && { unseen: unseen.map(({ what, reason }) => ({ what, reason })) }),
      counts: countStates(images),
      ...(run && { run }),
      images,
      ...(lastError !== undefined && { lastError }),
    },
  };
}

/** If the store was checked after the run ended, the result of that check replaces the recorded one. */
function withoutLists(
  state: RunState,
  now: StatusFacts['store'],
): Omit<RunState, 'apiVersion' | 'kind' | 'images' | 'unsynced' | 'suspect'> {
  const { apiVersion: _version, kind: _kind, images: _images, unsynced: _unsynced, suspect: _suspect, store, ...rest } = state;
  const verified: Verified | undefined = now.kind === 'seen' ? now.value.open?.verified : undefined;
  return { ...rest, ...(store && { store: { ...store, verified: verified ?? store.verified } }) };
}
