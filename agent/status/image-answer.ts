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
    /** Whether storage has it already; left out if that could not be checked. */
    readonly stored?: boolean;
    /** The places that a pull asks, as far as they were checked. */
    readonly places: readonly PlaceFacts[];
    readonly policies: readonly PolicyFacts[];
    /** What could not be checked at all; left out if empty. */
    readonly unseen?: readonly { readonly what: string; readonly reason: string }[];
  };
}

interface ImageVerdict {
  /** `refused`: by a policy, or because its file is faulty. `absent`: no place that a pull asks has the image. */
  readonly verdict: 'taken' | 'refused' | 'absent' | 'unknown';
  readonly reason: string;
  readonly nextStep: string;
  readonly exitCode: number;
  /** Where engines get it from, if that is known. */
  readonly from?: { readonly kind: 'mirror' | 'source' | 'storage'; readonly name: string };
}

/** Tells what engines of this node would do with an image. Claims nothing that was not checked. Pure. */
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
      facts.stored.kind === 'seen' && facts.stored.value ? '; storage already has the image, and using that copy needs no pull' : '';
    return {
      verdict: 'refused',
      reason: `${readerOf(refusal)} would refuse it because of ${entryOf(refusal)}: ${refusal.verdict.reason}${beside}`,
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
    return taken(fullName, 'it is in storage, and engines use it without a pull; no source or mirror has it');
  }
  return {
    verdict: 'absent',
    reason: `no source or mirror has it: ${passedOver(facts).join('; ')}`,
    nextStep: 'Add the image to the bundle of this node, or configure a source that has it',
    exitCode: exitCodes.failed,
  };
}

/** Pods of a namespace with its own policy need the signatures kept in storage, which this command does not check. */
function fromStorage({ stored, fullName, policies }: ImageFacts, unseen: Unseen): ImageVerdict {
  const isPlain = policies.every(({ namespace, verdict }) => namespace === undefined || verdict.kind === 'accepted');
  if (stored.kind === 'seen' && stored.value && isPlain) {
    return taken(fullName, `it is in storage, and engines use it without a pull; what a pull would do is unknown: ${unseen.reason}`);
  }
  return { verdict: 'unknown', reason: unseen.reason, nextStep: unseen.remedy, exitCode: exitCodes.unknown };
}

function taken(name: string, reason: string): ImageVerdict {
  return { verdict: 'taken', reason, nextStep: 'Nothing to do', exitCode: 0, from: { kind: 'storage', name } };
}

function unseenOf(facts: ImageFacts, place: PlaceFacts | undefined): Unseen | undefined {
  if (facts.places.kind === 'unseen') return facts.places;
  if (place?.answer.kind === 'unseen') return place.answer;
  // If no place has the image, no policy matters.
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

/** Why each place cannot provide the image. */
function passedOver(facts: ImageFacts): readonly string[] {
  const answers = placesOf(facts).map(({ name, answer }) => ({ name, ...answer }));
  return answers.filter((one) => one.kind === 'not').map(({ name, reason }) => `${name}: ${reason}`);
}

/** The engines that follow a policy, described for people. */
export function readerOf({ engines, namespace }: Pick<PolicyFacts, 'engines' | 'namespace'>): string {
  const names = engines.join(' and ');
  return namespace === undefined ? names : `${names} (pods of the namespace ${namespace})`;
}

/** The entry of a policy, described for people. */
export function entryOf({ file, scope }: Pick<PolicyFacts, 'file' | 'scope'>): string {
  return scope === undefined ? file : `${file}, "${scope}"`;
}
