/** Set to kill on both sides of every step, as `npm run test:crash` does. All of them take an hour on two cores. */
export const HAS_ALL = process.env.PRESTAGE_ALL_POINTS === '1';

/** On which sides of a step a command is killed; one of the two, always the same, if not all are asked for. */
export function sidesOf(act: string): readonly ('before' | 'after')[] {
  if (HAS_ALL) return ['before', 'after'];
  return act.length % 2 === 0 ? ['before'] : ['after'];
}

/** All of them, or one of each group of `every`, always the same, if not all are asked for: a kill takes 5 to 15 s. Pure. */
export function inLane<T>(all: readonly T[], every: number, name: string, hasAll = HAS_ALL): readonly T[] {
  if (hasAll) return all;
  const first = name.length % Math.min(every, Math.max(1, all.length));
  return all.filter((_one, index) => index % every === first);
}
