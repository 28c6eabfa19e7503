import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { FileSystemSpace } from '../../../agent/host/space.ts';
import type { LoadStep } from '../../../agent/load/plan.ts';
import { computeNeeds, findShortages, fitsInMemory, type Needs, type Resources } from '../../../agent/load/preflight.ts';

const GIB = 1024 ** 3;
const space = (rest: Partial<FileSystemSpace> = {}): FileSystemSpace => ({
  path: '/var',
  sizeBytes: 100 * GIB,
  freeBytes: 90 * GIB,
  inMemory: false,
  id: 'disk',
  ...rest,
});
const machine = (rest: Partial<Resources> = {}): Resources => ({
  cores: 4,
  memoryBytes: 16 * GIB,
  storage: space(),
  scratch: space({ path: '/run', sizeBytes: 8 * GIB, freeBytes: 8 * GIB, inMemory: true, id: 'run' }),
  ...rest,
});
const needs = (rest: Partial<Needs> = {}): Needs => ({ parallel: 2, storageBytes: 10 * GIB, aheadBytes: GIB, scratchBytes: GIB, ...rest });
const load = (writeBytes: number): LoadStep => ({
  kind: 'load',
  image: { reference: `r${writeBytes}`, names: [], digests: [], layers: [], archiveBytes: 0, growth: undefined },
  writes: [],
  writeBytes,
  after: [],
  replaces: [],
});
const said = (n: Needs, resources: Resources, stage: 'discovery' | 'installed' = 'installed') =>
  findShortages(n, resources, stage).map((error) => [error.code, error.message]);

test('a machine with room has no shortage', () => {
  assert.deepEqual(said(needs(), machine()), []);
});

test('storage that is too small is refused with both figures', () => {
  assert.deepEqual(said(needs({ storageBytes: 12 * GIB }), machine({ storage: space({ freeBytes: 8 * GIB }) })), [
    ['ERR_SPACE_STORAGE', '/var needs 12.0 GiB (estimated), but has only 8.0 GiB free'],
  ]);
});

test('scratch that lies on the storage’s file system counts there', () => {
  const storage = space({ freeBytes: 10 * GIB });
  assert.deepEqual(said(needs(), machine({ storage, scratch: { ...storage, path: '/var/scratch' } })), [
    ['ERR_SPACE_STORAGE', '/var needs 11.0 GiB (estimated), but has only 10.0 GiB free'],
  ]);
});

test('scratch that is too small is refused with both figures', () => {
  assert.deepEqual(said(needs(), machine({ scratch: space({ path: '/s', freeBytes: GIB / 2, id: 'other' }) })), [
    ['ERR_SPACE_SCRATCH', 'scratch /s needs 1.0 GiB, but has only 512.0 MiB free'],
  ]);
});

test('storage in memory must fit into the memory that is free, together with scratch', () => {
  const storage = space({ inMemory: true, freeBytes: 15 * GIB, sizeBytes: 16 * GIB });
  assert.deepEqual(said(needs(), machine({ memoryBytes: 10 * GIB, storage }), 'discovery'), [
    ['ERR_SPACE_MEMORY', '/var is in memory and needs 11.0 GiB (estimated), but only 10.0 GiB of memory is free'],
  ]);
});

test('scratch alone in memory must fit, too', () => {
  assert.deepEqual(said(needs({ scratchBytes: 2 * GIB }), machine({ memoryBytes: GIB })), [
    ['ERR_SPACE_MEMORY', '/run is in memory and needs 2.0 GiB (estimated), but only 1.0 GiB of memory is free'],
  ]);
});

test('on the installed node kubelet’s mark is kept, in discovery it does not matter', () => {
  const storage = space({ freeBytes: 20 * GIB });
  assert.deepEqual(said(needs(), machine({ storage })), [
    ['ERR_SPACE_KUBELET', '/var would be 90 % full (90.0 GiB of 100.0 GiB); kubelet removes images above 85 %'],
  ]);
  assert.deepEqual(said(needs(), machine({ storage }), 'discovery'), []);
  assert.deepEqual(said(needs({ storageBytes: 0 }), machine({ storage: space({ freeBytes: GIB }) })), []);
});

test('a run with several shortages names each', () => {
  const storage = space({ inMemory: true, freeBytes: GIB, sizeBytes: 2 * GIB });
  assert.deepEqual(
    findShortages(needs(), machine({ memoryBytes: GIB, storage, scratch: space({ freeBytes: 0, id: 's' }) }), 'discovery').map(
      (error) => error.code,
    ),
    ['ERR_SPACE_STORAGE', 'ERR_SPACE_SCRATCH', 'ERR_SPACE_MEMORY'],
  );
});

test('one core loads one image at a time, and so does a machine with hardly any memory', () => {
  const loads = [load(10), load(20)];
  assert.equal(computeNeeds(loads, { cores: 1, memoryBytes: 16 * GIB }).parallel, 1);
  assert.equal(computeNeeds(loads, { cores: 8, memoryBytes: 1024 }).parallel, 1);
});

test('more images at a time than there are would be idle', () => {
  assert.equal(computeNeeds([load(1)], { cores: 8, memoryBytes: 16 * GIB }).parallel, 1);
  assert.equal(computeNeeds([], { cores: 8, memoryBytes: 16 * GIB }).parallel, 1);
});

test('the number that is asked for is taken', () => {
  assert.equal(computeNeeds([load(1), load(2), load(3)], { cores: 1, memoryBytes: 16 * GIB }, 3).parallel, 3);
});

test('scratch is sized for the biggest image, which skopeo holds a second time', () => {
  assert.deepEqual(computeNeeds([load(100), load(40)], { cores: 2, memoryBytes: 16 * GIB }), {
    parallel: 2,
    storageBytes: 350,
    aheadBytes: 150,
    scratchBytes: 250,
  });
});

test('where a bundle says how much its layers grow, no estimate is taken', () => {
  const exact: LoadStep = { ...load(100), image: { ...load(100).image, growth: 4 } };
  assert.equal(computeNeeds([exact], { cores: 2, memoryBytes: 16 * GIB }).storageBytes, 400);
});

test('memory serves as scratch only where it leaves three quarters to others', () => {
  assert.equal(fitsInMemory(space({ inMemory: true, freeBytes: 2 * GIB }), GIB, 4 * GIB), true);
  assert.equal(fitsInMemory(space({ inMemory: true, freeBytes: 2 * GIB }), GIB, 4 * GIB - 1), false);
  assert.equal(fitsInMemory(space({ inMemory: true, freeBytes: GIB - 1 }), GIB, 64 * GIB), false);
  assert.equal(fitsInMemory(space({ inMemory: false }), GIB, 64 * GIB), false);
});

test('law: at least one image at a time, and never more than asked for', () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat()),
      fc.integer({ min: 1, max: 128 }),
      fc.nat(),
      fc.option(fc.integer({ min: 1, max: 64 }), { nil: undefined }),
      (sizes, cores, memoryBytes, wanted) => {
        const { parallel } = computeNeeds(sizes.map(load), { cores, memoryBytes }, wanted);
        assert.ok(parallel >= 1 && parallel <= Math.max(1, wanted ?? Math.min(cores, 8)));
      },
    ),
  );
});
