import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ListedImage, parseImageList } from '../../../agent/model/image-list.ts';
import { extraTagFor, NO_MAPPING, parseMapping } from '../../../agent/model/mapping.ts';
import { formatReference } from '../../../agent/model/reference.ts';
import { digests, tags } from '../../support/arbitraries.ts';
import { thrownBy } from '../../support/thrown.ts';

const HEX = '07aa2fa37fbee8270509d1705305eb001be90d49e66722e5725986b7e3706593';
const SOURCE = `quay.io/openshift-release-dev/ocp-v4.0-art-dev@sha256:${HEX}`;

function listed(text: string): ListedImage {
  const [image] = parseImageList(text, 'x').images;
  assert.ok(image);
  return image;
}

test('an image that is listed by digest also gets its own repository with the tag of its destination', () => {
  const mapping = parseMapping(`${SOURCE}=openshift/release:4.12.9-x86_64-pod\n`, 'mapping.txt');
  assert.deepEqual(extraTagFor(listed(SOURCE), mapping), {
    registry: 'quay.io',
    repository: 'openshift-release-dev/ocp-v4.0-art-dev',
    tag: '4.12.9-x86_64-pod',
  });
});

test('destinations are read with and without scheme, registry, port, tag and digest', () => {
  const destinations: readonly (readonly [string, string | undefined])[] = [
    ['openshift/release:1-x', '1-x'],
    ['file://openshift/release:1-x', '1-x'],
    ['file:///openshift/release:1-x', '1-x'],
    ['docker://registry.example.com/openshift/release:1-x', '1-x'],
    ['localhost:5000/openshift/release:1-x', '1-x'],
    ['localhost:5000/openshift/release', undefined],
    ['openshift/release', undefined],
    [`openshift/release@sha256:${HEX}`, undefined],
    [`openshift/release:1-x@sha256:${HEX}`, '1-x'],
  ];
  assert.deepEqual(
    destinations.map(([destination]) => [destination, parseMapping(`${SOURCE}=${destination}`, 'mapping.txt').tags.get(SOURCE)]),
    destinations,
  );
});

test('a source is compared whole: a dot is a dot, and a longer reference is another one', () => {
  const mapping = parseMapping(`quay.io/a/ocp-v4.0-art-dev@sha256:${HEX}=a/b:1\n`, 'mapping.txt');
  assert.deepEqual(
    [
      `quay.io/a/ocp-v4.0-art-dev@sha256:${HEX}`,
      `quay.io/a/ocp-v4-0-art-dev@sha256:${HEX}`,
      `my.quay.io/a/ocp-v4.0-art-dev@sha256:${HEX}`,
    ].map((text) => extraTagFor(listed(text), mapping)?.tag),
    ['1', undefined, undefined],
  );
});

test('an image that has a tag already gets no second one', () => {
  const text = `quay.io/a/b:1@sha256:${HEX}`;
  const mapping = parseMapping(`quay.io/a/b:1=x/y:2\n${text}=x/y:3\n`, 'mapping.txt');
  assert.equal(extraTagFor(listed('quay.io/a/b:1'), mapping), undefined);
  assert.equal(extraTagFor(listed(text), mapping), undefined);
});

test('without a mapping no image gets a tag', () => {
  assert.equal(extraTagFor(listed(SOURCE), NO_MAPPING), undefined);
});

test('blanks, CRLF, comments and empty lines are taken, and sources of any kind', () => {
  const mapping = parseMapping(`# made by oc-mirror\r\n\r\n ${SOURCE} = a/b:1 \r\noci:///catalog=x/y:2\r\n`, 'mapping.txt');
  assert.deepEqual(mapping, {
    tags: new Map([
      [SOURCE, '1'],
      ['oci:///catalog', '2'],
    ]),
    notices: [],
  });
});

test('of two destination tags of a source the first counts, with a notice; the same tag twice is none', () => {
  assert.deepEqual(parseMapping(`${SOURCE}=a/b:1\n${SOURCE}=a/b:2\n${SOURCE}=c/d:1\n`, 'mapping.txt'), {
    tags: new Map([[SOURCE, '1']]),
    notices: [`mapping.txt:2: ${SOURCE} already has the tag 1 at mapping.txt:1, 2 is ignored`],
  });
});

test('every line that is no mapping is told with its place', () => {
  const text = ['no equals sign', 'a=b=c', '=b', 'a=', 'a=B:x', `${SOURCE}=a/b:1`].join('\n');
  assert.deepEqual(
    thrownBy(() => parseMapping(text, 'mapping.txt')),
    {
      code: 'ERR_MAPPING',
      message: [
        'mapping.txt cannot be read: 5 faults',
        'mapping.txt:1: "no equals sign" is not source=destination',
        'mapping.txt:2: "a=b=c" is not source=destination',
        'mapping.txt:3: "=b" is not source=destination',
        'mapping.txt:4: "a=" is not source=destination',
        'mapping.txt:5: "B:x" is not an image reference: "library/B" is not a repository path',
      ].join('\n'),
      remedy: 'Copy mapping.txt again from the workspace of oc-mirror, or remove it: images listed by digest then get no tag',
    },
  );
});

test('each digest of a mapping gets the tag of its own line', () => {
  const entries = fc.uniqueArray(fc.record({ digest: digests, tag: tags }), { selector: (entry) => entry.digest, maxLength: 10 });
  fc.assert(
    fc.property(entries, (all) => {
      const mapping = parseMapping(all.map(({ digest, tag }) => `quay.io/a/b@${digest}=file://x/y:${tag}`).join('\n'), 'mapping.txt');
      for (const { digest, tag } of all) {
        const extra = extraTagFor(listed(`quay.io/a/b@${digest}`), mapping);
        assert.equal(extra && formatReference(extra), `quay.io/a/b:${tag}`);
      }
    }),
  );
});
