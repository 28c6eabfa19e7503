import fc from 'fast-check';
import type { Digest } from '../../agent/model/digest.ts';
import type { Reference } from '../../agent/model/reference.ts';

/** A text of characters of an alphabet. */
export function textOf(alphabet: string, minLength: number, maxLength: number): fc.Arbitrary<string> {
  return fc.string({ unit: fc.constantFrom(...alphabet.split('')), minLength, maxLength });
}

const LOWER = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** sha256 digests. */
export const digests: fc.Arbitrary<Digest> = textOf('0123456789abcdef', 64, 64).map((hex): Digest => `sha256:${hex}`);

/** Tags of the grammar. */
export const tags: fc.Arbitrary<string> = fc
  .tuple(textOf(`${LOWER}ABCXYZ_`, 1, 1), textOf(`${LOWER}ABCXYZ_.-`, 0, 12))
  .map(([first, rest]) => first + rest);

/** Path components of a repository. */
const components = fc
  .tuple(textOf(LOWER, 1, 6), fc.array(fc.tuple(fc.constantFrom('.', '_', '__', '-', '--'), textOf(LOWER, 1, 6)), { maxLength: 2 }))
  .map(([head, tail]) => head + tail.flat().join(''));

/** Registry hosts: names, addresses and `localhost`, some with a port. */
const registries = fc
  .tuple(
    fc.constantFrom('quay.io', 'registry.redhat.io', 'localhost', '10.0.0.1', 'REGISTRY.example.com', 'xn--a.example', 'docker.io'),
    fc.option(fc.integer({ min: 1, max: 65535 }), { nil: undefined }),
  )
  .map(([host, port]) => (port === undefined ? host : `${host}:${port}`));

/** References in full: registry, at least two path components, tag and digest in all combinations. */
export const references: fc.Arbitrary<Reference> = fc
  .record({
    registry: registries,
    repository: fc.array(components, { minLength: 2, maxLength: 4 }).map((parts) => parts.join('/')),
    tag: fc.option(tags, { nil: undefined }),
    digest: fc.option(digests, { nil: undefined }),
  })
  .map(({ registry, repository, tag, digest }) => ({
    registry,
    repository,
    ...(tag !== undefined && { tag }),
    ...(digest !== undefined && { digest }),
  }));

/** The text of a reference as a list could have it: without the `latest` that is meant. */
export function textOfReference({ registry, repository, tag, digest }: Reference): string {
  return `${registry}/${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}
