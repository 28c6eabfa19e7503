import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  archiveCollisions,
  LIST_LINE_LIMIT,
  type ListedImage,
  parseImageList,
  parseImageLists,
  withoutImages,
} from '../../../agent/model/image-list.ts';
import { formatReference, parseReference } from '../../../agent/model/reference.ts';
import { references, textOfReference } from '../../support/arbitraries.ts';
import { thrownBy } from '../../support/thrown.ts';

const HEX = '482618e19dc48990bb53f46e441ce21f574c04a6e0b9ee8fe1103284e15db994';
const REMEDY = 'Correct these lines, one image reference per line, or write the list again at the factory';

function textsOf(images: readonly ListedImage[]): readonly string[] {
  return images.map((image) => image.text);
}

test('each line is one image: its text, reference, line and archive name', () => {
  assert.deepEqual(parseImageList(`quay.io/a/b:1\n\nquay.io/a/c@sha256:${HEX}\n`, 'ai-images.txt'), {
    images: [
      { text: 'quay.io/a/b:1', reference: { registry: 'quay.io', repository: 'a/b', tag: '1' }, line: 1, archiveName: 'b_1' },
      {
        text: `quay.io/a/c@sha256:${HEX}`,
        reference: { registry: 'quay.io', repository: 'a/c', digest: `sha256:${HEX}` },
        line: 3,
        archiveName: `c@sha256_${HEX}`,
      },
    ],
    notices: [],
  });
});

test('trailing blanks, tabs, further fields, CRLF, CR, a byte order mark, comments and empty lines are taken', () => {
  const text =
    '\uFEFFquay.io/a/b:1 \r\n\tquay.io/a/c:2\tsecond field # third\r\n# comment\n  # indented\n \t\nquay.io/a/d:3\rquay.io/a/e:4';
  assert.deepEqual(textsOf(parseImageList(text, 'x').images), ['quay.io/a/b:1', 'quay.io/a/c:2', 'quay.io/a/d:3', 'quay.io/a/e:4']);
});

test('an empty list has no images', () => {
  assert.deepEqual(parseImageList('', 'x'), { images: [], notices: [] });
});

test('an image that comes again is dropped with a notice of both places, also where it is written another way', () => {
  const { images, notices } = parseImageList('quay.io/a/b:1\nbusybox\nquay.io/a/b:1\ndocker.io/library/busybox:latest\n', 'ai-images.txt');
  assert.deepEqual(textsOf(images), ['quay.io/a/b:1', 'busybox']);
  assert.deepEqual(notices, [
    'ai-images.txt:3: quay.io/a/b:1 is already listed at ai-images.txt:1',
    'ai-images.txt:4: docker.io/library/busybox:latest is already listed at ai-images.txt:2',
  ]);
});

test('several lists of a stage are read as one', () => {
  const lists = [
    { text: 'quay.io/a/b:1\n', where: 'ai-images.txt' },
    { text: 'quay.io/a/c:1\nquay.io/a/b:1\n', where: 'initial-images.txt' },
  ];
  const { images, notices } = parseImageLists(lists);
  assert.deepEqual(textsOf(images), ['quay.io/a/b:1', 'quay.io/a/c:1']);
  assert.deepEqual(notices, ['initial-images.txt:2: quay.io/a/b:1 is already listed at ai-images.txt:1']);
  const both = 'quay.io/a/b:1\nquay.io/a/c:1\n';
  assert.deepEqual(
    parseImageLists([
      { text: both, where: 'a' },
      { text: both, where: 'b' },
    ]).notices,
    ['b repeats 2 images of a; they are taken once'],
  );
});

test('every fault of every list is told with its place', () => {
  const lists = [
    { text: 'quay.io/A:1\nquay.io/a/b:1\n', where: 'ai-images.txt' },
    { text: '\nquay.io/a/c@sha256:12\n', where: 'initial-images.txt' },
  ];
  assert.deepEqual(
    thrownBy(() => parseImageLists(lists)),
    {
      code: 'ERR_LIST',
      message: [
        'ai-images.txt, initial-images.txt cannot be read: 2 faults',
        'ai-images.txt:1: "quay.io/A:1" is not an image reference: "A" is not a repository path',
        'initial-images.txt:2: "quay.io/a/c@sha256:12" is not an image reference: "sha256:12" is not sha256:<64 lower-case hex digits>',
      ].join('\n'),
      remedy: REMEDY,
    },
  );
});

test('of many faults the first 20 are told, and how many there are', () => {
  const { message } = thrownBy(() => parseImageList('<html>\n'.repeat(404), 'ai-images.txt'));
  const lines = message.split('\n');
  assert.equal(lines.length, 22);
  assert.equal(lines[0], 'ai-images.txt cannot be read: 404 faults');
  assert.equal(lines[20], 'ai-images.txt:20: "<html>" is not an image reference: "library/<html>" is not a repository path');
  assert.equal(lines[21], '… and 384 more');
});

test('a line of 4096 characters is read, a longer one is a fault', () => {
  const line = `quay.io/a/b:1 ${'x'.repeat(4082)}`;
  assert.deepEqual(textsOf(parseImageList(line, 'x').images), ['quay.io/a/b:1']);
  assert.deepEqual(
    thrownBy(() => parseImageList(`${line}y`, 'x')),
    { code: 'ERR_LIST', message: `x:1: the line has 4097 characters, more than 4096: "${line.slice(0, 160)}…"`, remedy: REMEDY },
  );
});

test('a list of 100 000 lines is read, a longer one is refused', () => {
  assert.deepEqual(parseImageList('\n'.repeat(LIST_LINE_LIMIT - 1), 'x').images, []);
  assert.deepEqual(
    thrownBy(() => parseImageList('\n'.repeat(LIST_LINE_LIMIT), 'x')),
    { code: 'ERR_LIST', message: 'x has 100001 lines, more than 100000', remedy: REMEDY },
  );
});

test('whatever the references, the spacing and the comments, the list gives each reference once and in order', () => {
  const noise = fc.constantFrom('', '# comment', '   ', '\t#');
  const lines = fc.array(fc.record({ reference: references, before: noise, blank: fc.constantFrom('', ' ', '\t', ' x') }), {
    maxLength: 12,
  });
  fc.assert(
    fc.property(lines, fc.constantFrom('\n', '\r\n', '\r'), (all, end) => {
      const text = all.flatMap(({ reference, before, blank }) => [before, textOfReference(reference) + blank]).join(end);
      const { images, notices } = parseImageList(text, 'x');
      const written = all.map(({ reference }) => formatReference(reference));
      assert.deepEqual(
        images.map((image) => formatReference(image.reference)),
        [...new Set(written)],
      );
      assert.equal(images.length + notices.length, all.length);
      assert.deepEqual(
        images.map((image) => parseReference(image.text)),
        images.map((image) => image.reference),
      );
      assert.deepEqual(
        images.map((image) => all[(image.line - 2) / 2]?.reference),
        images.map((image) => image.reference),
      );
    }),
  );
});

test('different images of one archive name collide', () => {
  const { images } = parseImageList('quay.io/a/x:1\nquay.io/c/y:1\nquay.io/b/x:1\nquay.io/x_1:latest\nquay.io/a/x_1\n', 'x');
  assert.deepEqual(archiveCollisions(images).map(textsOf), [['quay.io/a/x:1', 'quay.io/b/x:1', 'quay.io/a/x_1']]);
  const { images: others } = parseImageList('quay.io/a/x:1\nquay.io/a/x_1\n', 'x');
  assert.deepEqual(archiveCollisions(others).map(textsOf), [['quay.io/a/x:1', 'quay.io/a/x_1']]);
});

test('one digest under two repositories shares its archive and does not collide', () => {
  const { images } = parseImageList(`quay.io/a/x@sha256:${HEX}\nquay.io/b/x@sha256:${HEX}\n`, 'x');
  assert.deepEqual(
    images.map((image) => image.archiveName),
    [`x@sha256_${HEX}`, `x@sha256_${HEX}`],
  );
  assert.deepEqual(archiveCollisions(images), []);
});

test('images collide exactly where they share an archive name without sharing a digest', () => {
  const repositories = fc.constantFrom('a/x', 'b/x', 'a/y');
  const endings = fc.constantFrom(':1', ':2', `@sha256:${HEX}`, `:1@sha256:${HEX}`);
  const list = fc.uniqueArray(fc.tuple(repositories, endings), { selector: ([name, ending]) => name + ending });
  fc.assert(
    fc.property(list, (all) => {
      const { images } = parseImageList(all.map(([name, ending]) => `quay.io/${name}${ending}`).join('\n'), 'x');
      const colliding = new Set(archiveCollisions(images).flat());
      for (const image of images) {
        const rivals = images.filter(
          (other) => other.archiveName === image.archiveName && other !== image && other.reference.digest === undefined,
        );
        assert.equal(colliding.has(image), rivals.length > 0);
      }
    }),
  );
});

const REAL_LISTS = join(import.meta.dirname, '../../../../shared/data/image-lists');

test('real lists are read whole', () => {
  if (!existsSync(REAL_LISTS)) {
    console.log(`went without the real image lists: ${REAL_LISTS} is not there`);
    return;
  }
  const read = (name: string) => parseImageList(readFileSync(join(REAL_LISTS, name), 'utf8'), name);
  const summary = ['acm-2.5.1.txt', 'initial-images-4.10.3.txt', 'initial-images-4.11.0.txt', 'ocp_images.txt.4.10.3'].map((name) => {
    const { images, notices } = read(name);
    return [name, images.length, notices.length, archiveCollisions(images).length];
  });
  assert.deepEqual(summary, [
    ['acm-2.5.1.txt', 2, 0, 0],
    ['initial-images-4.10.3.txt', 20, 0, 0],
    ['initial-images-4.11.0.txt', 18, 0, 0],
    ['ocp_images.txt.4.10.3', 162, 0, 0],
  ]);
});

test('lines of some images are taken out of the text of a list, and everything else stays as it is', () => {
  const text = '\uFEFFquay.io/a:1 x\r\n# quay.io/b:1\n\tquay.io/b:1\n\nquay.io/c:1';
  assert.equal(withoutImages(text, new Set()), text);
  assert.equal(withoutImages(text, new Set(['quay.io/b:1'])), '\uFEFFquay.io/a:1 x\r\n# quay.io/b:1\n\nquay.io/c:1');
  assert.equal(withoutImages(text, new Set(['quay.io/a:1', 'quay.io/c:1'])), '# quay.io/b:1\n\tquay.io/b:1\n\n');
});
