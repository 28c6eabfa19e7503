import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { pickStageLists, stageListNames } from '../../../agent/model/stage-lists.ts';
import { thrownBy } from '../../support/thrown.ts';

const FOLDER = ['mapping.txt', 'ignored-images.txt', 'imageset.yaml', 'troubleshoot_latest.tgz', 'ai-images.txt', 'ocp-images.txt'];

test('in a folder of the factory-precaching tool each stage has its own list', () => {
  assert.deepEqual(pickStageLists('discovery', FOLDER), ['ai-images.txt']);
  assert.deepEqual(pickStageLists('installed', FOLDER), ['ocp-images.txt']);
});

test('the lists of the prototype are found, with the release in their name or without', () => {
  assert.deepEqual(pickStageLists('discovery', ['initial-images-4.10.3.txt']), ['initial-images-4.10.3.txt']);
  assert.deepEqual(pickStageLists('discovery', ['initial-images.txt']), ['initial-images.txt']);
  assert.deepEqual(pickStageLists('installed', ['ocp_images.txt.4.10.3']), ['ocp_images.txt.4.10.3']);
  assert.deepEqual(pickStageLists('installed', ['ocp_images.txt']), ['ocp_images.txt']);
  assert.deepEqual(pickStageLists('installed', ['ocp-images-4.10.3.txt']), ['ocp-images-4.10.3.txt']);
});

test('lists of different kinds count together, the factory-precaching tool first', () => {
  const names = ['ocp_images.txt.4.10.3', 'ocp-images-4.10.3.txt', 'ocp-images.txt', 'initial-images.txt', 'ai-images.txt'];
  assert.deepEqual(pickStageLists('discovery', names), ['ai-images.txt', 'initial-images.txt']);
  assert.deepEqual(pickStageLists('installed', names), ['ocp-images.txt', 'ocp-images-4.10.3.txt', 'ocp_images.txt.4.10.3']);
});

test('the lists of two releases are refused, with the names of both', () => {
  assert.deepEqual(
    thrownBy(() => pickStageLists('discovery', ['initial-images-4.11.0.txt', 'initial-images-4.10.3.txt'])),
    {
      code: 'ERR_LIST_AMBIGUOUS',
      message:
        'The stage discovery has 2 image lists of the form initial-images*.txt: initial-images-4.10.3.txt, initial-images-4.11.0.txt',
      remedy: 'Keep the list of one release in the folder and move the others away',
    },
  );
  assert.equal(thrownBy(() => pickStageLists('installed', ['ocp_images.txt.4.10.3', 'ocp_images.txt.4.10.4'])).code, 'ERR_LIST_AMBIGUOUS');
});

test('the lists of one stage never disturb the other', () => {
  const two = ['ocp_images.txt.4.10.3', 'ocp_images.txt.4.10.4', 'ai-images.txt'];
  assert.deepEqual(pickStageLists('discovery', two), ['ai-images.txt']);
});

test('names that only resemble a list are none', () => {
  const names = [
    'ai-images.txt.bak',
    'AI-images.txt',
    'my-ai-images.txt',
    '._ocp-images.txt',
    'ocp-images.txt~',
    'ocp-images-.yaml',
    'initial-images.yaml',
    '',
  ];
  assert.deepEqual(pickStageLists('discovery', names), []);
  assert.deepEqual(pickStageLists('installed', names), []);
});

test('the order of the directory does not matter', () => {
  const names = ['ai-images.txt', 'initial-images.txt', 'ocp-images.txt', 'ocp_images.txt.4.10.3', 'mapping.txt'];
  const shuffled = fc.shuffledSubarray(names, { minLength: names.length });
  fc.assert(
    fc.property(shuffled, (all) => assert.deepEqual(pickStageLists('installed', all), ['ocp-images.txt', 'ocp_images.txt.4.10.3'])),
  );
});

test('the names that are looked for can be told', () => {
  assert.deepEqual(stageListNames('discovery'), ['ai-images.txt', 'initial-images*.txt']);
  assert.deepEqual(stageListNames('installed'), ['ocp-images.txt', 'ocp-images-*.txt', 'ocp_images.txt*']);
});
