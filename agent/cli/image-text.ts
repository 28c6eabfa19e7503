import { entryOf, type ImageReport, readerOf } from '../status/image-answer.ts';
import type { PlaceFacts, PolicyVerdict } from '../status/image-facts.ts';
import type { Paint, Style } from './output.ts';

const STYLE_OF: Readonly<Record<ImageReport['image']['verdict'], Style>> = {
  taken: 'good',
  refused: 'bad',
  absent: 'bad',
  unknown: 'warn',
};

/** The findings of `status --image`, as text for people. Pure. */
export function imageText({ image }: ImageReport, paint: Paint): string {
  const { verdict, reason, nextStep, reference, stored, places, policies, unseen = [] } = image;
  return [
    `${paint(STYLE_OF[verdict], verdict)}: ${reason}`,
    `next:      ${nextStep}`,
    `image:     ${reference}`,
    ...(stored === undefined ? [] : [`storage:   ${stored ? 'has it' : 'does not have it'}`]),
    ...places.map((place) => `asked:     ${placeText(place)}`),
    ...policies.map((policy) => `policy:    ${entryOf(policy)}, of ${readerOf(policy)}: ${policyText(policy.verdict)}`),
    ...unseen.map((one) => `not seen:  ${one.what}: ${one.reason}`),
  ].join('\n');
}

function placeText({ kind, name, answer }: PlaceFacts): string {
  const what = answer.kind === 'has' ? `has ${answer.digest}` : answer.kind === 'not' ? answer.reason : 'not looked at';
  return `${kind} ${name}: ${what}`;
}

function policyText(verdict: PolicyVerdict): string {
  if (verdict.kind === 'unseen') return `not known: ${verdict.reason}`;
  if (verdict.kind === 'refused') return `refuses it: ${verdict.reason}`;
  if (verdict.signatures.length === 0) return 'accepts it without a signature';
  const kinds = { sigstore: 'sigstore', gpg: 'GPG' } as const;
  return `accepts it by ${verdict.signatures.map(({ by, name, digest }) => `the ${kinds[by]} signature of "${name}" (${digest})`).join(' and ')}`;
}
