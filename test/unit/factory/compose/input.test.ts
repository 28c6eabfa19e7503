import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readInput } from '../../../../agent/factory/compose/input.ts';
import { formatOciIndex } from '../../../../agent/model/oci-layout.ts';
import { digestFor } from '../../../support/source-images.ts';

describe('the input of a build', () => {
  let work: string;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'prestage-input-'));
  });
  after(async () => await rm(work, { recursive: true }));

  const [one, two, nameless] = [digestFor('one'), digestFor('two'), digestFor('nameless')];
  const repository = 'quay.io/openshift-release-dev/ocp-v4.0-art-dev';
  /** A layout whose index names images that nobody looks at. */
  const layout = async (name: string, files: Readonly<Record<string, string>>): Promise<string> => {
    const directory = join(work, name);
    await mkdir(directory);
    const entry = (reference: string, digest: typeof one) => ({ reference, digest, sizeBytes: 1, mediaType: 'x/y' });
    const index = formatOciIndex([
      entry('quay.io/e/tool:v1', one),
      entry(`${repository}@${two}`, two),
      entry('busybox', two),
      entry('quay.io/e/whole', two),
      entry('quay.io/e/two:v1', one),
      entry('quay.io/e/two:v1', two),
      entry('', nameless),
    ]);
    const all = { 'oci-layout': '{"imageLayoutVersion":"1.0.0"}', 'index.json': index, ...files };
    for (const [file, text] of Object.entries(all)) await writeFile(join(directory, file), text);
    return directory;
  };
  const digestsOf = (input: Awaited<ReturnType<typeof readInput>>) =>
    input.stages.map(({ stage, images }) => [
      stage,
      images.map(({ names, source }) => [names, source.kind === 'layout' ? source.digest : source.archive.name]),
    ]);

  it('finds images by digest where the list has one, else by the whole reference, under all their names', async () => {
    const directory = await layout('found', {
      'ai-images.txt': `quay.io/e/tool:v1\r\n${repository}@${two}\n`,
      'ocp-images.txt': `quay.io/e/whole:latest\nquay.io/other/name:tag@${nameless}\n# none\n`,
      'mapping.txt': `${repository}@${two}=registry.example.com:5000/ocp4/openshift4:4.14.0-pod\n`,
    });
    const input = await readInput(directory, { lists: {}, registryImage: 'quay.io/e/tool:v1' });
    assert.deepEqual(digestsOf(input), [
      [
        'discovery',
        [
          [['quay.io/e/tool:v1'], one],
          [[`${repository}@${two}`, `${repository}:4.14.0-pod`], two],
        ],
      ],
      [
        'installed',
        [
          [['quay.io/e/whole:latest'], two],
          [[`quay.io/other/name@${nameless}`, 'quay.io/other/name:tag'], nameless],
        ],
      ],
    ]);
    assert.deepEqual(
      [input.kind, input.registryImage?.names, [...input.listFiles]],
      [
        'oci',
        ['quay.io/e/tool:v1'],
        [
          ['ai-images.txt', join(directory, 'ai-images.txt')],
          ['ocp-images.txt', join(directory, 'ocp-images.txt')],
          ['mapping.txt', join(directory, 'mapping.txt')],
        ],
      ],
    );
  });

  it('takes the lists that are given and no other, and gives them the names that a node looks for', async () => {
    const directory = await layout('given', { 'ai-images.txt': 'quay.io/e/unlisted:v1\n' });
    const list = join(work, 'my list');
    await writeFile(list, 'quay.io/e/tool:v1\n');
    const input = await readInput(directory, { lists: { installed: list } });
    assert.deepEqual(
      [digestsOf(input), [...input.listFiles]],
      [[['installed', [[['quay.io/e/tool:v1'], one]]]], [['ocp-images.txt', list]]],
    );
    await assert.rejects(readInput(directory, { lists: { discovery: join(work, 'absent') } }), {
      code: 'ERR_BUILD_INPUT',
      message: `the list ${join(work, 'absent')} cannot be read: it does not exist`,
    });
  });

  it('names all images that are missing, of both stages and the one for the registry', async () => {
    const directory = await layout('missing', {
      'ai-images.txt': 'quay.io/e/gone:v1\n',
      'ocp-images.txt': `${repository}@${digestFor('gone')}\n`,
    });
    await assert.rejects(readInput(directory, { lists: {}, registryImage: 'quay.io/e/registry:1' }), {
      code: 'ERR_BUILD_IMAGE',
      message: [
        `${directory} does not contain all listed images: 3 faults`,
        'discovery: quay.io/e/gone:v1: the layout has no image with this reference',
        `installed: ${repository}@${digestFor('gone')}: the layout has no image with this digest`,
        '--registry-image quay.io/e/registry:1: the layout has no image with this reference',
      ].join('\n'),
      remedy: 'Pull with the same lists into that folder, or take the images off the list',
    });
  });

  it('never takes a name without a registry for one of Docker Hub, and of a name that two images have it wants the digest', async () => {
    const directory = await layout('doubled', { 'ocp-images.txt': 'docker.io/library/busybox:latest\nquay.io/e/two:v1\n' });
    await assert.rejects(readInput(directory, { lists: {} }), {
      code: 'ERR_BUILD_IMAGE',
      message: [
        `${directory} does not contain all listed images: 2 faults`,
        'installed: docker.io/library/busybox:latest: the layout has no image with this reference',
        `installed: quay.io/e/two:v1: the layout has several images with this name, ${one}, ${two}: list it by digest`,
      ].join('\n'),
    });
  });

  it('refuses a name that two images would go by, as an engine can give it to one only', async () => {
    const other = 'quay.io/e/tool@';
    const directory = await layout('conflict', {
      'ocp-images.txt': `quay.io/e/tool:v1\n${other}${two}\n`,
      'mapping.txt': `${other}${two}=registry.example.com/x:v1\n`,
    });
    await assert.rejects(readInput(directory, { lists: {} }), {
      code: 'ERR_BUILD_IMAGE',
      message: `quay.io/e/tool:v1 and ${other}${two} would both be named quay.io/e/tool:v1, by the list or mapping.txt`,
    });
  });

  it('finds archives by their names, and refuses links, folders and names that two images share', async () => {
    const directory = join(work, 'archives');
    await mkdir(join(directory, 'dir_v1.tgz'), { recursive: true });
    await writeFile(join(directory, 'tool_v1.tgz'), 'not read');
    await writeFile(join(directory, 'ai-images.txt'), 'quay.io/e/tool:v1\n');
    const input = await readInput(directory, { lists: {} });
    assert.deepEqual([input.kind, digestsOf(input)], ['archives', [['discovery', [[['quay.io/e/tool:v1'], 'tool_v1']]]]]);
    await writeFile(join(directory, 'ai-images.txt'), 'quay.io/e/tool:v1\nquay.io/f/tool:v1\nquay.io/e/dir:v1\nquay.io/e/gone:v1\n');
    await assert.rejects(readInput(directory, { lists: {} }), {
      code: 'ERR_BUILD_IMAGE',
      message: [
        `${directory} does not contain all listed images: 3 faults`,
        'quay.io/e/tool:v1 and quay.io/f/tool:v1 have the same archive name tool_v1.tgz',
        `discovery: quay.io/e/dir:v1: ${join(directory, 'dir_v1.tgz')} is not a plain file`,
        `discovery: quay.io/e/gone:v1: ${join(directory, 'gone_v1.tgz')} cannot be read: it does not exist`,
      ].join('\n'),
    });
  });
});
