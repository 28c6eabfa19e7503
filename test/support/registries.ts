import fc from 'fast-check';
import type { MirrorEntry, RegistryEntry } from '../../agent/engine/registries-file.ts';

export const MAIN = '/etc/containers/registries.conf';

/** A `[[registry]]` of the main file with what is left out at its default. */
export function entryOf(prefix: string, rest: Partial<RegistryEntry> = {}): RegistryEntry {
  const defaults = { location: prefix, insecure: false, blocked: false, mirrorByDigestOnly: false, mirrors: [], extra: {}, file: MAIN };
  return { prefix, ...defaults, ...rest };
}

export function mirrorOf(location: string, rest: Partial<MirrorEntry> = {}): MirrorEntry {
  return { location, insecure: false, extra: {}, ...rest };
}

/** One place that an engine asks for an image. */
export interface Endpoint {
  readonly image: string;
  readonly insecure: boolean;
  readonly blocked: boolean;
}

/**
 * Where an engine asks for an image, in order, worked out from its entries as the engines' library does and apart from the code under test.
 * Source: containers/image, pkg/sysregistriesv2, FindRegistry and PullSourcesFromReference; docker/docker_client.go for `blocked`.
 * @param image name with `:tag` or `@digest`
 */
export function endpointsOf(entries: readonly RegistryEntry[], image: string): readonly Endpoint[] {
  const isDigest = image.includes('@');
  const endpoint = (at: string, insecure: boolean): Endpoint => ({
    image: at,
    insecure,
    blocked: find(entries, nameOf(at))?.blocked ?? false,
  });
  const entry = find(entries, nameOf(image));
  if (entry === undefined) return [endpoint(image, false)];
  const rest = image.slice(prefixEnd(nameOf(image), entry.prefix));
  const asked = entry.mirrors.filter(({ pullFromMirror }) => {
    if (entry.mirrorByDigestOnly) return isDigest;
    if (pullFromMirror === 'digest-only') return isDigest;
    return pullFromMirror === 'tag-only' ? !isDigest : true;
  });
  const source = entry.location === '' ? image : entry.location + rest;
  return [...asked.map((mirror) => endpoint(mirror.location + rest, mirror.insecure)), endpoint(source, entry.insecure)];
}

function nameOf(image: string): string {
  const path = image.split('@', 1)[0] ?? '';
  const colon = path.lastIndexOf(':');
  return colon > path.lastIndexOf('/') ? path.slice(0, colon) : path;
}

function find(entries: readonly RegistryEntry[], name: string): RegistryEntry | undefined {
  let best: RegistryEntry | undefined;
  for (const entry of entries) {
    if (prefixEnd(name, entry.prefix) > 0 && entry.prefix.length > (best?.prefix.length ?? 0)) best = entry;
  }
  return best;
}

/** -1 where the prefix does not apply. */
function prefixEnd(name: string, prefix: string): number {
  const [host = ''] = name.split('/', 1);
  if (!prefix.startsWith('*.'))
    return name === prefix || [':', '/', '@'].some((mark) => name.startsWith(prefix + mark)) ? prefix.length : -1;
  const [bare = ''] = host.split(':', 1);
  return bare.endsWith(prefix.slice(1)) ? bare.length : -1;
}

const HOSTS = ['quay.io', 'quay.io:443', 'a.example.com', 'b.example.com'] as const;
const paths = fc.array(fc.constantFrom('x', 'y', 'yy'), { maxLength: 3 }).map((parts) => parts.map((part) => `/${part}`).join(''));

/** Registry, namespaces and a repository, few enough to lie within each other often. */
export const repositories = fc
  .tuple(fc.constantFrom(...HOSTS), paths, fc.constantFrom('r', 's', 'x'))
  .map(([host, path, last]) => `${host}${path}/${last}`);

/** An image of such a repository, or of one below it. */
export const images = fc
  .tuple(repositories, fc.constantFrom(':v1', `@sha256:${'a'.repeat(64)}`))
  .map(([repository, end]) => `${repository}${end}`);

const mirrors: fc.Arbitrary<readonly MirrorEntry[]> = fc.array(
  fc.record({ location: fc.constantFrom('m1.test', 'm2.test/p', 'm3.test/p/q'), insecure: fc.boolean(), extra: fc.constant({}) }),
  { maxLength: 3 },
);

const pulls = fc.constantFrom(undefined, 'all', 'digest-only', 'tag-only');

/** What an operator or a cluster could have configured, one entry of each prefix, wildcards and rewritten sources among them. */
export const configurations: fc.Arbitrary<readonly RegistryEntry[]> = fc.uniqueArray(
  fc
    .record({
      prefix: fc.oneof(
        { weight: 5, arbitrary: fc.tuple(fc.constantFrom(...HOSTS), paths).map(([host, path]) => host + path) },
        { weight: 1, arbitrary: fc.constantFrom('*.example.com', '*.com') },
      ),
      moved: fc.option(fc.constantFrom('elsewhere.test', 'elsewhere.test/deep'), { nil: undefined }),
      insecure: fc.boolean(),
      blocked: fc.boolean(),
      mirrorByDigestOnly: fc.boolean(),
      mirrors,
      pull: fc.array(pulls, { minLength: 3, maxLength: 3 }),
      extra: fc.constantFrom<RegistryEntry['extra']>({}, { note: 'a "quoted" \u007f text', 'odd key': [1, 2.5, true, { deep: 'x' }] }),
    })
    .map(({ prefix, moved, pull, ...rest }): RegistryEntry => {
      const withPull = rest.mirrors.map((mirror, index) => {
        const pullFromMirror = pull[index];
        return rest.mirrorByDigestOnly || pullFromMirror === undefined ? mirror : { ...mirror, pullFromMirror };
      });
      return entryOf(prefix, { ...rest, mirrors: withPull, location: moved ?? (prefix.startsWith('*.') ? '' : prefix) });
    }),
  { selector: (entry) => entry.prefix, maxLength: 6 },
);
