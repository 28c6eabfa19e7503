import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Bundle, BundleFile } from '../../../agent/model/bundle.ts';
import { formatNote, parseNote } from '../../../agent/partition/partial-note.ts';
import { type PartitionSurvey, planWrite } from '../../../agent/partition/plan-write.ts';
import { thrownBy } from '../../support/thrown.ts';

const MIB = 1024 * 1024;
const file = (path: string, sizeBytes = MIB): BundleFile => ({ path, sizeBytes, sha256: '0'.repeat(64) });
const bundleOf = (...files: readonly BundleFile[]): Bundle => ({
  apiVersion: 'prestage-agent/v1',
  kind: 'Bundle',
  release: '4.15.0',
  architecture: 'amd64',
  createdAt: '2026-01-01T00:00:00Z',
  createdBy: { name: 'test', version: '0' },
  stages: {},
  payloads: [],
  files: [...files],
});
const empty: PartitionSurvey = {
  isPartial: false,
  isSameManifest: false,
  release: undefined,
  earlier: [],
  sound: new Set(),
  unsound: new Map(),
  leftovers: new Map(),
  freeBytes: 1000 * MIB,
  sizeBytes: 2000 * MIB,
};
const options = { isPruneFirst: false, where: '/dev/sda5' };
const [a, b, c] = [file('a'), file('b'), file('c')];

test('an empty partition gets all files, and nobody has to agree', () => {
  assert.deepEqual(planWrite(bundleOf(a, b), empty, options), {
    copy: [a, b],
    keep: [],
    replace: [],
    obsolete: [],
    isPruneFirst: false,
    copyBytes: 2 * MIB,
    isDone: false,
    isReplacing: false,
    replacesRelease: undefined,
  });
});

test('the bundle that is there with the right bytes needs nothing', () => {
  const survey = { ...empty, isSameManifest: true, release: '4.15.0', earlier: [a, b], sound: new Set(['a', 'b']), freeBytes: 0 };
  const plan = planWrite(bundleOf(a, b), survey, options);
  assert.deepEqual([plan.isDone, plan.isReplacing, plan.keep], [true, false, [a, b]]);
});

test('a write that was ended goes on: what is sound stays, half-written files go, nobody has to agree', () => {
  const survey = { ...empty, isPartial: true, earlier: [a, b], sound: new Set(['a']), leftovers: new Map([['.t', 5]]) };
  const { copy, keep, replace, isDone, isReplacing } = planWrite(bundleOf(a, b), survey, options);
  assert.deepEqual(
    { copy, keep, replace, isDone, isReplacing },
    { copy: [b], keep: [a], replace: ['.t'], isDone: false, isReplacing: false },
  );
});

test('a write that was ended after its last file has its end still to come', () => {
  const survey = { ...empty, isPartial: true, isSameManifest: true, sound: new Set(['a']) };
  assert.equal(planWrite(bundleOf(a), survey, options).isDone, false);
});

test('a whole bundle gives way only where a person agrees: its other files go, and its own ones at the end', () => {
  const survey = { ...empty, release: '4.14.0', earlier: [a, b, c], sound: new Set(['a']), unsound: new Map([['b', MIB]]) };
  assert.deepEqual(planWrite(bundleOf(a, b), survey, options), {
    copy: [b],
    keep: [a],
    replace: ['b'],
    obsolete: ['c'],
    isPruneFirst: false,
    copyBytes: MIB,
    isDone: false,
    isReplacing: true,
    replacesRelease: '4.14.0',
  });
});

test('files of a folder without a manifest are not overwritten without asking either', () => {
  const { isReplacing, replacesRelease } = planWrite(bundleOf(a), { ...empty, unsound: new Map([['a', 1]]) }, options);
  assert.deepEqual([isReplacing, replacesRelease], [true, undefined]);
});

test('a damaged file of the same bundle is mended without asking', () => {
  const survey = {
    ...empty,
    isSameManifest: true,
    release: '4.15.0',
    earlier: [a, b],
    sound: new Set(['a']),
    unsound: new Map([['b', 1]]),
  };
  const { copy, isReplacing } = planWrite(bundleOf(a, b), survey, options);
  assert.deepEqual([copy, isReplacing], [[b], false]);
});

test('room that replaced and half-written files give back counts', () => {
  const big = file('big', 900 * MIB);
  const survey = {
    ...empty,
    isPartial: true,
    freeBytes: 10 * MIB,
    unsound: new Map([['big', 500 * MIB]]),
    leftovers: new Map([['.t', 400 * MIB]]),
  };
  assert.deepEqual(planWrite(bundleOf(big), survey, options).copy, [big]);
});

test('a bundle that does not fit is refused before anything is written', () => {
  assert.deepEqual(
    thrownBy(() => planWrite(bundleOf(file('big', 1100 * MIB)), empty, options)),
    {
      code: 'ERR_SPACE_PARTITION',
      message: '/dev/sda5 (2.0 GiB) has 1000.0 MiB free, but 1.1 GiB are to be copied',
      remedy: 'Create a larger partition: prestage-agent partition create DEVICE --replace --size SIZE',
    },
  );
});

test('where only both bundles do not fit, the remedy is to remove the earlier one first', () => {
  const survey = { ...empty, release: '4.14.0', earlier: [file('old', 500 * MIB)] };
  const bundle = bundleOf(file('big', 1100 * MIB));
  assert.equal(
    thrownBy(() => planWrite(bundle, survey, options)).remedy,
    'Use --prune-first: it first removes 500.0 MiB of the earlier bundle',
  );
  const plan = planWrite(bundle, survey, { ...options, isPruneFirst: true });
  assert.deepEqual([plan.obsolete, plan.isPruneFirst], [['old'], true]);
});

test('law: every file is either kept or copied, and nothing of the new bundle is obsolete', () => {
  const names = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e/f'));
  fc.assert(
    fc.property(names, names, names, fc.boolean(), (wanted, earlier, sound, isPartial) => {
      const files = wanted.map((path) => file(path));
      const survey = {
        ...empty,
        isPartial,
        earlier: earlier.map((path) => file(path)),
        sound: new Set(sound.filter((path) => wanted.includes(path))),
      };
      const { copy, keep, obsolete } = planWrite(bundleOf(...files), survey, options);
      assert.deepEqual([...copy, ...keep].map((each) => each.path).toSorted(), wanted.toSorted());
      assert.deepEqual(
        obsolete,
        earlier.filter((path) => !wanted.includes(path)),
      );
    }),
  );
});

test('the note of an unfinished write names each file once and is read again', () => {
  assert.deepEqual(parseNote(formatNote([a, b, { path: 'a', sizeBytes: 7 }])), [
    { path: 'a', sizeBytes: 7 },
    { path: 'b', sizeBytes: MIB },
  ]);
});

test('a note that leads out of the partition, or is none, names no file', () => {
  const hostile = { apiVersion: 'prestage-agent/v1', kind: 'PartialBundle', files: [{ path: '../../etc/passwd', sizeBytes: 1 }] };
  assert.deepEqual(parseNote(JSON.stringify(hostile)), []);
  fc.assert(fc.property(fc.string(), (text) => assert.deepEqual(parseNote(text), [])));
});
