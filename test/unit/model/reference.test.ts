import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { archiveNameOf, formatReference, nameOf, parseReference, readReference } from '../../../agent/model/reference.ts';
import { references, tags, textOfReference } from '../../support/arbitraries.ts';
import { thrownBy } from '../../support/thrown.ts';

const HEX = '482618e19dc48990bb53f46e441ce21f574c04a6e0b9ee8fe1103284e15db994';
const DIGEST = `sha256:${HEX}`;

test('a reference is taken apart into registry, repository, tag and digest', () => {
  assert.deepEqual(parseReference('quay.io/openshift-release-dev/ocp-release:4.10.3-x86_64'), {
    registry: 'quay.io',
    repository: 'openshift-release-dev/ocp-release',
    tag: '4.10.3-x86_64',
  });
  assert.deepEqual(parseReference(`localhost:5000/a@${DIGEST}`), { registry: 'localhost:5000', repository: 'a', digest: DIGEST });
  assert.deepEqual(parseReference(`quay.io:443/a/b:T_1.x-@${DIGEST}`), {
    registry: 'quay.io:443',
    repository: 'a/b',
    tag: 'T_1.x-',
    digest: DIGEST,
  });
});

// What skopeo makes of these texts, test/integration/model/agrees.test.ts asks it.
test('a reference is completed as containers-storage records it', () => {
  const table: readonly (readonly [string, string])[] = [
    ['busybox', 'docker.io/library/busybox:latest'],
    ['busybox:1', 'docker.io/library/busybox:1'],
    ['a/b', 'docker.io/a/b:latest'],
    ['docker.io/busybox', 'docker.io/library/busybox:latest'],
    ['docker.io/a/b:1', 'docker.io/a/b:1'],
    ['index.docker.io/busybox:1', 'docker.io/library/busybox:1'],
    ['index.docker.io/a/b', 'docker.io/a/b:latest'],
    ['localhost', 'docker.io/library/localhost:latest'],
    ['localhost:5000', 'docker.io/library/localhost:5000'],
    ['localhost/a', 'localhost/a:latest'],
    ['localhost:5000/a', 'localhost:5000/a:latest'],
    ['HOST.io/a/b:T', 'HOST.io/a/b:T'],
    ['10.0.0.1:5000/a', '10.0.0.1:5000/a:latest'],
    ['a_b/c', 'docker.io/a_b/c:latest'],
    ['foo.bar:1', 'docker.io/library/foo.bar:1'],
    [`busybox@${DIGEST}`, `docker.io/library/busybox@${DIGEST}`],
    [`quay.io/a/b:t@${DIGEST}`, `quay.io/a/b:t@${DIGEST}`],
    [`a/${HEX}`, `docker.io/a/${HEX}:latest`],
  ];
  assert.deepEqual(
    table.map(([text]) => [text, formatReference(parseReference(text))]),
    table,
  );
});

test('what is no reference is refused with the part that is wrong', () => {
  const table: readonly (readonly [string, string])[] = [
    ['', '"library/" is not a repository path'],
    ['quay.io/A/b', '"A/b" is not a repository path'],
    ['Host/a', '"Host/a" is not a repository path'],
    ['quay.io/a//b', '"a//b" is not a repository path'],
    ['quay.io/', '"" is not a repository path'],
    ['quay.io/a/-b', '"a/-b" is not a repository path'],
    ['quay.io/a___b', '"a___b" is not a repository path'],
    ['quay.io/a..b', '"a..b" is not a repository path'],
    ['/a', '"/a" is not a repository path'],
    ['quay.io/a:', '"" is not a tag'],
    ['quay.io/a:.x', '".x" is not a tag'],
    [`quay.io/a:${'t'.repeat(129)}`, `"${'t'.repeat(129)}" is not a tag`],
    ['a..b/c', '"a..b" is not a registry host'],
    ['-a.b/c', '"-a.b" is not a registry host'],
    ['a-.b/c', '"a-.b" is not a registry host'],
    ['host:port/a', '"host:port" is not a registry host'],
    [':5000/a', '":5000" is not a registry host'],
    ['[::1]:5000/a', '"[::1]:5000" is not a registry host'],
    ['http://a.b/c', '"http:" is not a registry host'],
    ['quay.io/a@', '"" is not sha256:<64 lower-case hex digits>'],
    [`quay.io/a@sha256:${HEX.toUpperCase()}`, `"sha256:${HEX.toUpperCase()}" is not sha256:<64 lower-case hex digits>`],
    [`quay.io/a@sha512:${HEX}`, `"sha512:${HEX}" is not sha256:<64 lower-case hex digits>`],
    [`quay.io/a@x@${DIGEST}`, `"x@${DIGEST}" is not sha256:<64 lower-case hex digits>`],
    [HEX, '64 hex digits alone are an image ID'],
    [`a.b/${'c'.repeat(252)}`, 'its name is longer than 255 characters'],
    ['quay.io/a/b:t ', '"t " is not a tag'],
  ];
  const shortened = (text: string): string => (text.length > 160 ? `${text.slice(0, 160)}…` : text);
  assert.deepEqual(
    table.map(([text]) => readReference(text)),
    table.map(([text, why]) => `"${shortened(text)}" is not an image reference: ${why}`),
  );
});

test('a refused reference comes with what to write instead', () => {
  assert.deepEqual(
    thrownBy(() => parseReference('quay.io/a b')),
    {
      code: 'ERR_REFERENCE',
      message: '"quay.io/a b" is not an image reference: "a b" is not a repository path',
      remedy: 'Write it as registry/repository:tag or registry/repository@sha256:<64 hex digits>',
    },
  );
});

test('a name of 255 characters is the longest', () => {
  assert.equal(parseReference(`a.b/${'c'.repeat(251)}`).repository.length, 251);
});

test('a formatted reference parses to itself, and only the meant "latest" is added', () => {
  fc.assert(
    fc.property(references, (reference) => {
      assert.deepEqual(parseReference(textOfReference(reference)), reference);
      const isNameOnly = reference.tag === undefined && reference.digest === undefined;
      assert.deepEqual(parseReference(formatReference(reference)), isNameOnly ? { ...reference, tag: 'latest' } : reference);
    }),
  );
});

test('every text is a reference or a sentence about it', () => {
  const texts = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ unit: fc.constantFrom(...'aA0.:/@-_[]% '.split('')) }),
    references.map(textOfReference),
  );
  fc.assert(
    fc.property(texts, (text) => {
      const reference = readReference(text);
      if (typeof reference === 'string') assert.match(reference, /^".*" is not an image reference: /s);
      else assert.equal(formatReference(parseReference(formatReference(reference))), formatReference(reference));
    }),
  );
});

test('a long hostile text is refused at once', () => {
  const started = performance.now();
  for (const text of [
    'a-'.repeat(50_000),
    `${'a.'.repeat(50_000)}/b`,
    `${'a-'.repeat(50_000)}.b/c`,
    `q.io/${'a_'.repeat(50_000)}`,
    'a/'.repeat(50_000),
  ]) {
    assert.equal(typeof readReference(text), 'string');
  }
  // A pattern that goes back and forth would take minutes.
  assert.ok(performance.now() - started < 5000);
});

test('the name is registry and repository', () => {
  assert.equal(nameOf(parseReference(`quay.io:443/a/b:t@${DIGEST}`)), 'quay.io:443/a/b');
});

test('an archive is named by the last component, its first colon turned into an underscore', () => {
  const table: readonly (readonly [string, string])[] = [
    [`quay.io/openshift-release-dev/ocp-v4.0-art-dev@${DIGEST}`, `ocp-v4.0-art-dev@sha256_${HEX}`],
    ['quay.io/alosadag/troubleshoot:latest', 'troubleshoot_latest'],
    ['localhost:5000/a/b:1', 'b_1'],
    ['busybox', 'busybox'],
    [`a/b:1@${DIGEST}`, `b_1@${DIGEST}`],
  ];
  assert.deepEqual(
    table.map(([text]) => [text, archiveNameOf(text)]),
    table,
  );
});

test('the archive name of a reference stays within its folder', () => {
  fc.assert(
    fc.property(references, tags, (reference, tag) => {
      for (const text of [textOfReference(reference), textOfReference({ ...reference, tag })]) {
        assert.match(archiveNameOf(text), /^[a-z0-9][^/]*$/);
      }
    }),
  );
});
