import fc from 'fast-check';

const TOKENS = [
  '{',
  '}',
  '[',
  ']',
  '"',
  '\\',
  '..',
  '/',
  '../',
  '%2e%2e/',
  '\0',
  '\u202e',
  '\ufeff',
  '\r\n',
  '&a',
  '*a',
  '<<: ',
  '- ',
  ': ',
  '<a href="',
  '>',
  '__proto__',
  '1e999',
  '-1',
  'null',
  '@sha256:',
  '%00',
  '//',
  'http://[',
  'javascript:',
];

/** A sound text, cut into pieces that are dropped, doubled, exchanged or mixed with tokens that mean something. */
export function damagedTexts(sample: string): fc.Arbitrary<string> {
  const edit = fc.record({
    kind: fc.constantFrom<Edit['kind'][]>('drop', 'double', 'token', 'noise', 'move'),
    at: fc.nat(sample.length),
    length: fc.integer({ min: 0, max: 24 }),
    token: fc.constantFrom(...TOKENS),
    noise: fc.string({ unit: 'binary', maxLength: 4 }),
    to: fc.nat(sample.length),
  });
  return fc.array(edit, { minLength: 1, maxLength: 6 }).map((edits) => edits.reduce(damage, sample));
}

interface Edit {
  readonly kind: 'drop' | 'double' | 'token' | 'noise' | 'move';
  readonly at: number;
  readonly length: number;
  readonly token: string;
  readonly noise: string;
  readonly to: number;
}

function damage(text: string, { kind, at, length, token, noise, to }: Edit): string {
  const piece = text.slice(at, at + length);
  const rest = text.slice(0, at) + text.slice(at + length);
  switch (kind) {
    case 'drop':
      return rest;
    case 'double':
      return text.slice(0, at) + piece.repeat(3) + text.slice(at);
    case 'token':
      return text.slice(0, at) + token + text.slice(at);
    case 'noise':
      return text.slice(0, at) + noise + text.slice(at + noise.length);
    case 'move':
      return rest.slice(0, to) + piece + rest.slice(to);
  }
}
