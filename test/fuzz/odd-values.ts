import fc from 'fast-check';

/** What tools of the field have been seen to write in place of what a format says, and what nobody should. */
const ODD: readonly unknown[] = [
  null,
  '',
  ' ',
  'latest',
  'quay.io/a/b:1',
  'a'.repeat(300),
  0,
  -1,
  0.5,
  2 ** 53,
  1e300,
  true,
  [],
  {},
  [null],
  { '': null },
  'sha256:',
  `sha256:${'a'.repeat(64)}`,
  `sha512:${'a'.repeat(128)}`,
  'application/vnd.oci.empty.v1+json',
  'application/vnd.cncf.helm.config.v1+json',
  'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.in-toto+json',
];

interface Edit {
  readonly kind: 'replace' | 'drop' | 'double' | 'graft' | 'add';
  readonly node: number;
  readonly other: number;
  readonly value: unknown;
}

/** A sound document in which values are replaced by odd ones, left out, doubled, put where others belong, or added under keys of other formats. */
export function oddDocuments(sample: unknown): fc.Arbitrary<unknown> {
  const edit = fc.record({
    kind: fc.constantFrom<Edit['kind'][]>('replace', 'drop', 'double', 'graft', 'add'),
    node: fc.nat(10_000),
    other: fc.nat(10_000),
    value: fc.constantFrom(...ODD),
  });
  return fc.array(edit, { minLength: 1, maxLength: 5 }).map((edits) => edits.reduce(change, structuredClone(sample)));
}

/** Keys that say what a document is. */
const TELLING = ['subject', 'artifactType', 'mediaType', 'annotations', 'platform', 'urls', 'manifests', 'layers', 'from', 'name'] as const;

type Holder = Record<string, unknown>;

function change(document: unknown, { kind, node, other, value: odd }: Edit): unknown {
  // Its own: what is put into one document may be changed there.
  const value: unknown = structuredClone(odd);
  const places = placesIn(document);
  const place = places[node % Math.max(1, places.length)];
  if (place === undefined) return value;
  const { holder, key } = place;
  const donor = places[other % places.length];
  switch (kind) {
    case 'replace':
      holder[key] = value;
      break;
    case 'drop':
      if (Array.isArray(holder)) holder.splice(Number(key), 1);
      else delete holder[key];
      break;
    case 'double':
      if (Array.isArray(holder)) holder.push(structuredClone(holder[Number(key)]));
      break;
    case 'graft':
      holder[key] = structuredClone(donor?.holder[donor.key]);
      break;
    case 'add': {
      const target = holder[key];
      const name = TELLING[other % TELLING.length] ?? 'name';
      if (typeof target === 'object' && target !== null && !Array.isArray(target)) (target as Holder)[name] = value;
      break;
    }
  }
  return document;
}

function placesIn(value: unknown): readonly { readonly holder: Holder; readonly key: string }[] {
  if (typeof value !== 'object' || value === null) return [];
  const holder = value as Holder;
  return Object.keys(holder).flatMap((key) => [{ holder, key }, ...placesIn(holder[key])]);
}
