import type { AbsentInstance } from '../../model/absent-instances.ts';
import type { Digest } from '../../model/digest.ts';
import { type ErrorRecord, errorRecord, type PrestageError } from '../../model/errors.ts';
import type { ListedImage } from '../../model/image-list.ts';
import { isCoveredByOpenshift } from '../../signatures/openshift.ts';
import type { PulledAttached } from './attached-fetch.ts';
import type { StepResult } from './execute.ts';
import type { PullPlan, PullStep } from './plan.ts';
import type { PullResult } from './progress.ts';
import type { ResolvedImage } from './resolve.ts';
import type { Resolution } from './resolve-all.ts';
import { isUnsigned } from './signed.ts';

export interface PulledImage {
  /** As the list has it. */
  readonly reference: string;
  /** `planned` in a dry run only; `left-out` is an artifact that may be left out. */
  readonly state: PullResult | 'planned' | 'left-out';
  readonly error?: ErrorRecord;
  /** Of the manifest that the reference leads to. It and the fields below are known only if a registry has answered. */
  readonly digest?: string;
  /** All its blobs. */
  readonly sizeBytes?: number;
  /** Its blobs that are fetched for it; each blob is fetched for one image. */
  readonly fetchBytes?: number;
  /** Its manifests that have sigstore signatures; undefined if none were asked for. */
  readonly signed?: readonly Digest[];
  /** Its manifests that have GPG signatures; undefined if none has. */
  readonly gpgSigned?: readonly Digest[];
  /** Manifests that its list names and the registry does not have; left out if it has all. */
  readonly absent?: readonly AbsentInstance[];
  /** A release of OpenShift demands a signature of it, and the registry has none. */
  readonly lacksSignature?: true;
  /** Attachments that were fetched; undefined if they were not asked for. */
  readonly attached?: readonly PulledAttached[];
}

export interface PullReport {
  readonly outcome: 'complete' | 'partial' | 'failed' | 'interrupted' | 'planned';
  /** In the order of the list. */
  readonly images: readonly PulledImage[];
  /** Bytes that the plan had to fetch, and bytes that were there. */
  readonly fetchBytes: number;
  readonly keptBytes: number;
  /** The error that would keep a planned pull from starting. */
  readonly error?: ErrorRecord;
}

export interface PullFacts {
  readonly skipsArtifacts: boolean;
  readonly listed: readonly ListedImage[];
  readonly resolution: Resolution;
  readonly plan: PullPlan;
  /** Images that the plan skips, because the folder has them in their final form. */
  readonly delivered: readonly ResolvedImage[];
}

/** The report of a dry run. Pure. */
export function planReport(facts: PullFacts, lacking: PrestageError | undefined): PullReport {
  const states = facts.plan.steps.map((step) => [step.image.listed.text, { state: step.kind === 'keep' ? 'kept' : 'planned' }] as const);
  const images = imagesOf(facts, new Map(states), 'planned');
  const error = lacking && errorRecord(lacking);
  return { outcome: 'planned', images, ...figures(facts), ...(error && { error }) };
}

/** Adds artifacts that only their configs have shown as such to those that were refused beforehand. Pure. */
export function withArtifacts(facts: PullFacts, results: readonly StepResult[]): PullFacts {
  const found = results.flatMap(({ step, error }) =>
    error !== undefined && isArtifact(error) ? [[step.image.listed.text, error] as const] : [],
  );
  return { ...facts, resolution: { ...facts.resolution, failed: new Map([...facts.resolution.failed, ...found]) } };
}

/** The report of a pull. Pure. */
export function pullReport(facts: PullFacts, results: readonly StepResult[], isStopped: boolean): PullReport {
  const states = results.map((one) => [one.step.image.listed.text, stateOf(one)] as const);
  const images = imagesOf(facts, new Map(states), 'skipped');
  const isThere = ({ state }: PulledImage): boolean => state === 'pulled' || state === 'kept' || state === 'left-out';
  const isComplete = images.every(isThere);
  const outcome = isComplete ? 'complete' : isStopped ? 'interrupted' : images.some(isThere) ? 'partial' : 'failed';
  return { outcome, images, ...figures(facts) };
}

type ImageOutcome = Pick<PulledImage, 'state' | 'error' | 'signed' | 'gpgSigned' | 'lacksSignature' | 'attached'>;

function stateOf({ step, result, error, signed, gpgSigned, attached }: StepResult): ImageOutcome {
  const { reference, manifests } = step.image;
  const lacks = signed !== undefined && isCoveredByOpenshift(reference) && manifests.some(isUnsigned(signed));
  return {
    state: result,
    ...(error && { error }),
    ...(signed && { signed }),
    ...(gpgSigned && { gpgSigned }),
    ...(attached && { attached }),
    ...(lacks && { lacksSignature: true as const }),
  };
}

function imagesOf(
  { listed, resolution, plan, delivered, skipsArtifacts }: PullFacts,
  states: ReadonlyMap<string, ImageOutcome>,
  otherwise: PulledImage['state'],
): readonly PulledImage[] {
  const steps = new Map<string, PullStep>(plan.steps.map((step) => [step.image.listed.text, step]));
  const kept = new Map(delivered.map((image) => [image.listed.text, image]));
  return listed.map(({ text }): PulledImage => {
    const error = resolution.failed.get(text);
    if (error !== undefined) return { reference: text, state: skipsArtifacts && isArtifact(error) ? 'left-out' : 'failed', error };
    const whole = kept.get(text);
    if (whole !== undefined) return { reference: text, state: 'kept', digest: whole.top.digest, ...absentOf(whole) };
    const step = steps.get(text);
    if (step === undefined) return { reference: text, state: otherwise };
    const { image, sizeBytes, fetchBytes } = step;
    return {
      reference: text,
      ...(states.get(text) ?? { state: otherwise }),
      digest: image.top.digest,
      sizeBytes,
      fetchBytes,
      ...absentOf(image),
    };
  });
}

/** Whether the error of a line means that it does not name a container image. */
export function isArtifact({ code }: ErrorRecord): boolean {
  return code === 'ERR_NOT_IMAGE';
}

function absentOf({ absent }: ResolvedImage): Pick<PulledImage, 'absent'> {
  return absent.length === 0 ? {} : { absent };
}

function figures({ plan }: PullFacts): Pick<PullReport, 'fetchBytes' | 'keptBytes'> {
  return { fetchBytes: plan.fetchBytes, keptBytes: plan.keptBytes };
}
