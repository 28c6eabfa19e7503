import { exitCodes } from '../model/errors.ts';
import { STATUS_VERSION } from './assess.ts';
import type { ImageFacts, PlaceFacts, PolicyFacts } from './image-facts.ts';
import type { Unseen } from './look.ts';

/** The versioned answer of `status --image`; docs/image-status.schema.json describes it. */
export interface ImageReport {
  readonly apiVersion: typeof STATUS_VERSION;
  readonly kind: 'ImageStatus';
  readonly image: ImageVerdict & {
    readonly reference: string;
    /** Whether storage has it already; left out if that could not be looked at. */
    readonly stored?: boolean;
    /** What a pull asks, as far as it was looked at. */
    readonly places: readonly PlaceFacts[];
    readonly policies: readonly PolicyFacts[];
    /** What could not be looked at as a whole; left out if there is nothing. */
    readonly unseen?: readonly { readonly what: string; readonly reason: string }[];
  };
}

interface ImageVerdict {
  /** `refused`: a policy, or a fault of its file. `absent`: no place that is asked has it. */
  readonly verdict: 'taken' | 'refused' | 'absent' | 'unknown';
  readonly reason: string;
  readonly nextStep: string;
  readonly exitCode: number;
  /** What gives it to the engines, if that is known. */
  readonly from?: { readonly kind: 'mirror' | 'source' | 'storage'; readonly name: string };
}

/** What engines of this node would do with an image. Nothing is said that was not looked at. Pure. */
export function answerImage(facts: ImageFacts): ImageReport {
  const { fullName, policies, places, stored } = facts;
  const unseen = [
    ...(stored.kind === 'unseen' ? [{ what: 'containers-storage', reason: stored.reason }] : []),
    ...(places.kind === 'unseen' ? [{ what: 'the registries that a pull asks', reason: places.reason }] : []),
  ];
  return {
    apiVersion: STATUS_VERSION,
    kind: 'ImageStatus',
    image: {
      reference: fullName,
      ...verdictOf(facts),
      ...(stored.kind === 'seen' && { stored: stored.value }),
      places: placesOf(facts),
      policies,
      ...(unseen.length > 0 && { unseen }),
    },
  };
}

function verdictOf(facts: ImageFacts): ImageVerdict {
  const { policies, fullName } = facts;
  const refusal = policies.find(({ verdict }) => verdict.kind === 'refused');
  if (refusal?.verdict.kind === 'refused') {
    const beside =
      facts.stored.kind === 'seen' && facts.stored.value ? '; storage has the image already, and using it from there is no pull' : '';
    return {
      verdict: 'refused',
      reason: `${readerOf(refusal)} would refuse it by ${entryOf(refusal)}: ${refusal.verdict.reason}${beside}`,
      nextStep: refusal.verdict.remedy,
      exitCode: exitCodes.unsigned,
    };
  }
  const place = lastPlace(facts);
  const unseen = unseenOf(facts, place);
  if (unseen !== undefined) return fromStorage(facts, unseen);
  if (place?.answer.kind === 'has') {
    return {
      verdict: 'taken',
      reason: `a pull takes it from the ${place.kind} ${place.name}`,
      nextStep: 'Nothing to do',
      exitCode: 0,
      from: { kind: place.kind, name: place.name },
    };
  }
  if (facts.stored.kind === 'seen' && facts.stored.value) {
    return taken(fullName, 'it is in storage, and engines use it without a pull; no place that a pull asks has it');
  }
  return {
    verdict: 'absent',
    reason: `no place that a pull asks has it: ${passedOver(facts).join('; ')}`,
    nextStep: 'Put it into the bundle of this node, or give the node a source that has it',
    exitCode: exitCodes.failed,
  };
}

/** Pods whose namespace has a policy of its own need the signatures that storage keeps, which are not looked at here. */
function fromStorage({ stored, fullName, policies }: ImageFacts, unseen: Unseen): ImageVerdict {
  const isPlain = policies.every(({ namespace, verdict }) => namespace === undefined || verdict.kind === 'accepted');
  if (stored.kind === 'seen' && stored.value && isPlain) {
    return taken(fullName, `it is in storage, and engines use it without a pull; of a pull it is not known: ${unseen.reason}`);
  }
  return { verdict: 'unknown', reason: unseen.reason, nextStep: unseen.remedy, exitCode: exitCodes.unknown };
}

function taken(name: string, reason: string): ImageVerdict {
  return { verdict: 'taken', reason, nextStep: 'Nothing to do', exitCode: 0, from: { kind: 'storage', name } };
}

function unseenOf(facts: ImageFacts, place: PlaceFacts | undefined): Unseen | undefined {
  if (facts.places.kind === 'unseen') return facts.places;
  if (place?.answer.kind === 'unseen') return place.answer;
  // What no place has, no policy is asked about.
  if (place?.answer.kind !== 'has') return undefined;
  const policy = facts.policies.find(({ verdict }) => verdict.kind === 'unseen');
  return policy?.verdict.kind === 'unseen' ? policy.verdict : undefined;
}

function placesOf({ places }: ImageFacts): readonly PlaceFacts[] {
  return places.kind === 'seen' ? places.value : [];
}

function lastPlace(facts: ImageFacts): PlaceFacts | undefined {
  return placesOf(facts).at(-1);
}

/** Why each place is passed over. */
function passedOver(facts: ImageFacts): readonly string[] {
  const answers = placesOf(facts).map(({ name, answer }) => ({ name, ...answer }));
  return answers.filter((one) => one.kind === 'not').map(({ name, reason }) => `${name}: ${reason}`);
}

/** Which engines go by a policy, in words. */
export function readerOf({ engines, namespace }: Pick<PolicyFacts, 'engines' | 'namespace'>): string {
  const names = engines.join(' and ');
  return namespace === undefined ? names : `${names} (pods of the namespace ${namespace})`;
}

/** The entry of a policy, in words. */
export function entryOf({ file, scope }: Pick<PolicyFacts, 'file' | 'scope'>): string {
  return scope === undefined ? file : `${file}, "${scope}"`;
}
