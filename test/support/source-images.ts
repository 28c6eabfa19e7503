import fc from 'fast-check';
import type { NamedImage, SourceImage } from '../../agent/factory/compose/source-image.ts';
import { type Digest, digestOf } from '../../agent/model/digest.ts';

/** A digest that stands for some bytes by a word. */
export function digestFor(word: string): Digest {
  return digestOf(word);
}

/** A layer that stands for some bytes by a word: unpacked it has the digest of `diff WORD`. */
export function layerFor(word: string, sizeBytes = 10) {
  return { digest: digestFor(`layer ${word}`), sizeBytes, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' };
}

/** An image of a manifest of its own, with layers by words. */
export function imageOf(name: string, layers: readonly string[], more: Partial<SourceImage> = {}): SourceImage {
  const manifest = digestFor(`manifest ${name}`);
  return {
    top: { digest: manifest, sizeBytes: 500, mediaType: 'application/vnd.oci.image.manifest.v1+json' },
    manifest,
    config: digestFor(`config ${name}`),
    layers: layers.map((word) => layerFor(word)),
    diffIds: layers.map((word) => digestFor(`diff ${word}`)),
    created: '2024-01-01T00:00:00Z',
    labels: {},
    ...more,
  };
}

/** The image of a reference, listed by it and going by it alone. */
export function named(reference: string, layers: readonly string[], more: Partial<SourceImage> = {}): NamedImage {
  return { reference, names: [reference], image: imageOf(reference, layers, more) };
}

/** Sets of images over few layers and few configs, so that they share much. */
export const sharingImages: fc.Arbitrary<readonly NamedImage[]> = fc.array(
  fc
    .record({
      layers: fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 4 }),
      config: fc.constantFrom('x', 'y', 'z', ''),
    })
    .chain(({ layers, config }) =>
      fc.nat(1000).map((number) => named(`quay.io/example/image-${number}:v1`, layers, config === '' ? {} : { config: digestFor(config) })),
    ),
  { maxLength: 12 },
);
