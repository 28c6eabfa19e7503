/**
 * The candidate that a mistyped name probably means: letter case, `-`, `_` and camel case do not count; up to two letters can be wrong,
 * missing or too many, or two neighbours swapped. Undefined if no candidate is similar.
 */
export function suggest(name: string, candidates: readonly string[]): string | undefined {
  // A long text is not a typing error, and the distance takes quadratic time.
  if (name.length > 64) return undefined;
  const near = candidates
    .map((candidate) => ({ candidate, distance: distanceOf(plain(name), plain(candidate)) }))
    .filter(({ distance }) => distance <= 2)
    .sort((a, b) => a.distance - b.distance);
  return near[0]?.candidate;
}

function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[-_\s]/g, '');
}

/** Levenshtein distance: letters to change, add or remove until one text equals the other. */
function distanceOf(a: string, b: string): number {
  let distance = b.length;
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (const [index, letter] of a.split('').entries()) {
    let corner = index;
    row = row.map((above, column) => {
      const changed = corner + (b[column - 1] === letter ? 0 : 1);
      distance = column === 0 ? index + 1 : Math.min(above + 1, distance + 1, changed);
      corner = above;
      return distance;
    });
  }
  return distance;
}
