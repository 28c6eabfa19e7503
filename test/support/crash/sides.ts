/** Set to kill on both sides of every step, as `npm run test:crash` does. All of them take half an hour on two cores. */
export const HAS_ALL = process.env.PRESTAGE_ALL_POINTS === '1';

/** On which sides of a step a command is killed; one of the two, always the same, where not all are asked for. */
export function sidesOf(step: string): readonly ('before' | 'after')[] {
  if (HAS_ALL) return ['before', 'after'];
  return step.length % 2 === 0 ? ['before'] : ['after'];
}
