import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type CatalogChannel, type ChannelEntry, parseCatalog } from '../../../../agent/factory/images/catalog.ts';
import { channelHead, operatorImages, parseWantedPackage } from '../../../../agent/factory/images/operators.ts';
import { PrestageError } from '../../../../agent/model/errors.ts';
import { thrownBy } from '../../../support/thrown.ts';

const entry = (name: string, rest: Partial<ChannelEntry> = {}): ChannelEntry => ({
  name,
  replaces: undefined,
  skips: [],
  skipRange: undefined,
  ...rest,
});
const channel = (...entries: readonly ChannelEntry[]): CatalogChannel => ({ name: 'stable', package: 'foo', entries });
const bundle = (name: string, version?: string) => ({
  name,
  package: 'foo',
  image: `quay.io/o/${name}:1`,
  version,
  where: 'c.yaml, document 1',
  relatedImages: [],
});
const headOf = (one: CatalogChannel, bundles: readonly ReturnType<typeof bundle>[] = []) => channelHead(one, { bundles }).name;

const YAML = `schema: olm.package
name: foo
defaultChannel: stable
---
schema: olm.channel
package: foo
name: stable
entries:
  - {name: foo.v2, replaces: foo.v1}
  - {name: foo.v1}
---
schema: olm.bundle
package: foo
name: foo.v2
image: quay.io/o/foo-bundle:2
properties: [{type: olm.package, value: {packageName: foo, version: 2.0.0}}]
relatedImages: [{name: op, image: "quay.io/o/foo:2"}, {name: "", image: "quay.io/o/foo-bundle:2"}, {name: none, image: ""}]
---
schema: olm.deprecations
package: foo
`;
const yamlCatalog = () => parseCatalog([{ path: 'foo/catalog.yaml', text: YAML }], ['foo']);

test('an operator needs its bundle and the related images, each once', () => {
  assert.deepEqual(operatorImages(yamlCatalog(), parseWantedPackage('foo')), {
    package: 'foo',
    channel: 'stable',
    bundle: 'foo.v2',
    images: [
      { reference: 'quay.io/o/foo-bundle:2', component: undefined },
      { reference: 'quay.io/o/foo:2', component: 'op' },
    ],
    notices: ['foo/catalog.yaml, document 3, bundle foo.v2, relatedImages.2 (none): names no image, so none is listed'],
  });
});

test('JSON documents one after another say the same as YAML', () => {
  const text = `{"schema":"olm.package","name":"foo","defaultChannel":"stable"}\n{"schema":"olm.channel","package":"foo","name":"stable","entries":[{"name":"foo.v1"}]}{"schema":"olm.bundle","package":"foo","name":"foo.v1","image":"quay.io/o/b:1","properties":[{"type":"x","value":"{\\"}"}]}`;
  assert.equal(operatorImages(parseCatalog([{ path: 'c.json', text }], ['foo']), parseWantedPackage('foo')).bundle, 'foo.v1');
});

test('files that name no wanted package are not parsed', () => {
  assert.deepEqual(parseCatalog([{ path: 'bad.json', text: '{' }], ['foo']), { packages: [], channels: [], bundles: [], faults: [] });
});

test('a catalog that is cut off is refused with file and document', () => {
  const messageOf = (path: string, text: string) => thrownBy(() => parseCatalog([{ path, text }], ['foo'])).message;
  assert.equal(messageOf('c.json', '{"schema":"olm.package","name":"foo"} {"a":"foo"'), 'c.json is cut off in document 2');
  assert.equal(messageOf('c.json', '}foo'), 'c.json is cut off in document 1');
});

test('a document that cannot be read fails the answer only if it could have given it', () => {
  const faultsOf = (path: string, text: string) => parseCatalog([{ path, text: `${text}\n# foo` }], ['foo']).faults;
  assert.match(faultsOf('c.json', '{"a":foo}')[0]?.message ?? '', /^c.json, document 1: /);
  assert.match(faultsOf('c.yaml', 'foo: [\n')[0]?.message ?? '', /^c.yaml, document 1: /);
  assert.deepEqual(faultsOf('c.json', '{"schema":"olm.package","x":"foo"}'), [
    { package: undefined, message: 'c.json, document 1: name: is missing' },
  ]);
  assert.deepEqual(faultsOf('c.yaml', 'schema: olm.channel\nname: stable\npackage: foo\n'), [
    { package: 'foo', message: 'c.yaml, document 1: entries: is missing' },
  ]);
  const other = '---\nschema: olm.bundle\npackage: other\nname: 7\n---\nschema: olm.channel\npackage: other\n';
  const answer = operatorImages(parseCatalog([{ path: 'foo/catalog.yaml', text: `${YAML}${other}` }], ['foo']), parseWantedPackage('foo'));
  assert.deepEqual(answer, operatorImages(yamlCatalog(), parseWantedPackage('foo')));
  // Another version of the same package, and a document of nobody knows what: the answer stands, and says so.
  const own = '---\nschema: olm.bundle\npackage: foo\nname: foo.v1\nimage: 7\n---\n"\n';
  const read = parseCatalog([{ path: 'foo/catalog.yaml', text: `${YAML}${own}` }], ['foo']);
  const { notices, images } = operatorImages(read, parseWantedPackage('foo'));
  assert.deepEqual([images.length, notices.length], [2, 3]);
  assert.match(notices[1] ?? '', /^foo\/catalog.yaml, document 5: image: .*; the document is skipped$/);
  const { code, message } = thrownBy(() => operatorImages(read, parseWantedPackage('foo:stable@foo.v1')));
  assert.equal(code, 'ERR_CATALOG');
  assert.match(
    message,
    /^package foo, channel stable: the catalog has no bundle foo.v1; it may be in a document that cannot be read: 2 faults\n/,
  );
});

test('what is listed can be pulled: null and missing references are told, others that are none are refused, each with its place', () => {
  const text = (related: string): string => YAML.replace(/relatedImages: .*/, `relatedImages: ${related}`);
  const catalog = (related: string) => parseCatalog([{ path: 'c.yaml', text: text(related) }], ['foo']);
  const { images, notices } = operatorImages(
    catalog('[{name: a}, {image: null}, {name: null, image: "quay.io/o/b:1"}]'),
    parseWantedPackage('foo'),
  );
  assert.deepEqual(
    images.map(({ reference }) => reference),
    ['quay.io/o/foo-bundle:2', 'quay.io/o/b:1'],
  );
  assert.deepEqual(notices, [
    'c.yaml, document 3, bundle foo.v2, relatedImages.0 (a): names no image, so none is listed',
    'c.yaml, document 3, bundle foo.v2, relatedImages.1: names no image, so none is listed',
  ]);
  assert.deepEqual(
    thrownBy(() => operatorImages(catalog('[{name: a, image: "{{IMAGE}}"}]'), parseWantedPackage('foo'))),
    {
      code: 'ERR_CATALOG',
      message:
        'c.yaml, document 3, bundle foo.v2, relatedImages.0 (a): "{{IMAGE}}" is not an image reference: "library/{{IMAGE}}" is not a repository path',
      remedy: 'Check the catalog with: opm validate',
    },
  );
});

test('the head is what nothing replaces, wherever it stands in the list', () => {
  assert.equal(headOf(channel(entry('a'), entry('c', { replaces: 'b' }), entry('b', { replaces: 'a' }))), 'c');
});

test('what is skipped by name or by range is no head', () => {
  assert.equal(headOf(channel(entry('new', { skips: ['old'] }), entry('old'))), 'new');
  assert.equal(headOf(channel(entry('n', { skipRange: '>=1.0.0 <2.0.0' }), entry('o')), [bundle('n', '2.0.0'), bundle('o', '1.5.0')]), 'n');
});

test('a range that spans the head itself does not unseat it, and a version that is none is in no range', () => {
  assert.equal(headOf(channel(entry('n', { skipRange: '<=2.0.0' }), entry('o')), [bundle('n', '2.0.0'), bundle('o', '1.0.0')]), 'n');
  assert.throws(
    () => headOf(channel(entry('n', { skipRange: '<=2.0.0' }), entry('o')), [bundle('n', '2.0.0'), bundle('o', 'one')]),
    /has 2 heads: n, o/,
  );
});

test('a cycle has no head, and two heads are named', () => {
  assert.throws(() => headOf(channel(entry('a', { replaces: 'b' }), entry('b', { replaces: 'a' }))), /has no head: each of its 2 entries/);
  assert.throws(() => headOf(channel(entry('a'), entry('b'))), /package foo, channel stable has 2 heads: a, b/);
});

test('a version is found by property, by name or by the name’s end', () => {
  const catalog = {
    packages: [],
    channels: [channel(entry('foo.v1.0.0'), entry('b'))],
    bundles: [bundle('foo.v1.0.0'), bundle('b', '3.0.0')],
    faults: [],
  };
  const named = (version: string) => operatorImages(catalog, parseWantedPackage(`foo:stable@${version}`)).bundle;
  assert.deepEqual([named('1.0.0'), named('3.0.0'), named('b')], ['foo.v1.0.0', 'b', 'b']);
});

test('what does not exist is refused with what does', () => {
  const messageOf = (wanted: string) => thrownBy(() => operatorImages(yamlCatalog(), parseWantedPackage(wanted))).message;
  assert.equal(messageOf('bar'), 'the catalog has no package bar; it has: foo');
  assert.equal(messageOf('foo:beta'), 'package foo has no channel beta; it has: stable');
  assert.equal(messageOf('foo:stable@9'), 'package foo, channel stable has no version 9; it has: 2.0.0, foo.v1');
  assert.equal(messageOf('foo:stable@foo.v1'), 'package foo, channel stable: the catalog has no bundle foo.v1');
});

test('without a default channel one must be named, and long lists are cut', () => {
  const channels = Array.from({ length: 22 }, (_, i) => ({ ...channel(entry('a')), name: `c${i}` }));
  assert.match(
    thrownBy(() => operatorImages({ packages: [], channels, bundles: [], faults: [] }, parseWantedPackage('foo'))).message,
    /^package foo has no default channel; it has: c0, .*c19 and 2 more$/,
  );
});

test('an empty catalog says that it has none', () => {
  assert.equal(
    thrownBy(() => operatorImages({ packages: [], channels: [], bundles: [], faults: [] }, parseWantedPackage('foo'))).message,
    'the catalog has no package foo; it has: none',
  );
});

test('a package that is not written NAME:CHANNEL@VERSION is refused', () => {
  assert.equal(thrownBy(() => parseWantedPackage('foo@1')).code, 'ERR_USAGE');
});

test('law: a chain in any order has its last link as head', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 12 }).chain((n) =>
        fc.shuffledSubarray(
          Array.from({ length: n }, (_, i) => i),
          { minLength: n, maxLength: n },
        ),
      ),
      (order) => {
        const entries = order.map((i) => entry(`v${i}`, i === 0 ? {} : { replaces: `v${i - 1}` }));
        assert.equal(headOf(channel(...entries)), `v${order.length - 1}`);
      },
    ),
  );
});

test('law: whatever the text, reading a catalog ends in a catalog or in an error that says where', () => {
  const pieces = fc
    .array(
      fc.constantFrom(
        '{',
        '}',
        '"',
        '\\',
        '[',
        ']',
        ':',
        ',',
        'foo',
        'schema',
        'olm.bundle',
        'olm.channel',
        '\n',
        '---',
        ' ',
        '-',
        '1',
        '&a',
        '*a',
      ),
      { maxLength: 40 },
    )
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(pieces, fc.constantFrom('c.json', 'c.yaml'), (text, path) => {
      try {
        parseCatalog([{ path, text }], ['']);
      } catch (error) {
        assert.ok(error instanceof PrestageError && error.message.startsWith(path), String(error));
      }
    }),
  );
});
