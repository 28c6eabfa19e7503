/** Numbers of a seed, the same ones at every run; each below its limit. Source: mulberry32, Tommy Ettinger, public domain. */
export function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** What happens to files on disks: each seed does one of these at a place of its own. */
const DAMAGES = ['a flipped bit', 'truncation', 'a zeroed block', 'two blocks swapped'] as const;

/** The bytes of a file with the damage of a seed, and its name. Except for truncation the size stays. */
export function damaged(whole: Uint8Array, seed: number): { readonly what: (typeof DAMAGES)[number]; readonly bytes: Buffer } {
  const random = randomOf(seed);
  const bytes = Buffer.from(whole);
  const what = DAMAGES[seed % DAMAGES.length] ?? 'a flipped bit';
  const length = 1 + random(Math.max(1, Math.min(512, bytes.length >> 1)));
  const [one, two] = [random(bytes.length - length + 1), random(bytes.length - length + 1)];
  switch (what) {
    case 'a flipped bit':
      bytes.writeUInt8(bytes.readUInt8(one) ^ (1 << random(8)), one);
      return { what, bytes };
    case 'truncation':
      return { what, bytes: bytes.subarray(0, random(bytes.length)) };
    case 'a zeroed block':
      return { what, bytes: bytes.fill(0, one, one + length) };
    case 'two blocks swapped': {
      const first = Buffer.from(bytes.subarray(one, one + length));
      bytes.copy(bytes, one, two, two + length);
      first.copy(bytes, two);
      return { what, bytes };
    }
  }
}
