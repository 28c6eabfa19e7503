import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type KnownImage, type LoadStep, type PlanFacts, type PlanStep, planSteps, promoteAfterFailure } from '../../../agent/load/plan.ts';
import { type Digest, digestOf } from '../../../agent/model/digest.ts';
import type { Descriptor } from '../../../agent/model/manifest.ts';
import { isPresent } from '../../../agent/storage/is-present.ts';
import type { StorageContents, StoredImage } from '../../../agent/storage/records.ts';

const layer = (name: string, sizeBytes = 100): Descriptor => ({ digest: digestOf(name), sizeBytes, mediaType: '' });
const image = (reference: string, layers: readonly Descriptor[] = [], archiveBytes = 1): KnownImage => ({
  reference,
  names: [reference],
  digests: [digestOf(reference)],
  layers,
  archiveBytes,
  growth: undefined,
});
const stored = (reference: string, damage: readonly string[] = []): StoredImage => ({
  id: reference,
  names: [reference],
  digests: [digestOf(reference)],
  damage,
});
const storage = (images: readonly StoredImage[] = [], layers: readonly Descriptor[] = []): StorageContents => ({
  images,
  layers: new Set(layers.map((l) => l.digest)),
});
const facts = (images: readonly KnownImage[], rest: Partial<PlanFacts> = {}): PlanFacts => ({
  images,
  refused: [],
  storage: storage(),
  suspect: new Set(),
  ...rest,
});
const loadsOf = (steps: readonly PlanStep[]): readonly LoadStep[] => steps.filter((act) => act.kind === 'load');
const brief = (steps: readonly PlanStep[]) => loadsOf(steps).map((act) => [act.image.reference, act.writes.length, act.after]);

test('an image whose name and digest are in storage is kept', () => {
  assert.deepEqual(planSteps(facts([image('a')], { storage: storage([stored('a')]) })), [{ kind: 'keep', image: image('a') }]);
});

test('an image is present only when each of its names leads to a record of its digest', () => {
  const wanted = { ...image('a'), names: ['a', 'b'] };
  assert.equal(isPresent(wanted, storage([stored('a')])), false);
  assert.equal(isPresent(wanted, storage([{ ...stored('a'), names: ['a', 'b'] }])), true);
  // Two records of one name: of which one is sound.
  assert.equal(isPresent(image('a'), storage([stored('a', ['cut short']), stored('a')])), true);
  assert.equal(isPresent(wanted, storage([{ ...stored('a'), names: ['a', 'b'], digests: [digestOf('other')] }])), false);
});

test('a record without a name is replaced where it may be cut short, and left alone where it is not', () => {
  const nameless = { ...stored('a'), names: [] };
  const replaces = (record: StoredImage, suspect: readonly string[]) =>
    loadsOf(planSteps(facts([image('a')], { storage: storage([record]), suspect: new Set(suspect) }))).map((act) =>
      act.replaces.map(({ image: { id }, reason }) => [id, reason]),
    );
  assert.deepEqual(replaces(nameless, ['a']), [[['a', 'the machine went down before its files were known to be on the disk']]]);
  assert.deepEqual(replaces({ ...nameless, damage: ['its layer x is not known'] }, []), [[['a', 'its layer x is not known']]]);
  assert.deepEqual(replaces(nameless, []), [[]]);
  assert.deepEqual(replaces({ ...nameless, digests: [digestOf('other')] }, ['a']), [[]]);
});

test('the image that brings what most others wait for goes first, and the others bring only what is theirs', () => {
  const base = layer('base', 1000);
  const steps = planSteps(
    facts([image('big', [base, layer('x', 500)]), image('small', [base, layer('y', 5)]), image('middle', [base, layer('z', 50)])]),
  );
  assert.deepEqual(brief(steps), [
    ['small', 2, []],
    ['big', 1, ['small']],
    ['middle', 1, ['small']],
  ]);
});

test('a layer that storage has is brought by nobody', () => {
  const base = layer('base');
  const steps = planSteps(facts([image('a', [base, layer('x')]), image('b', [base])], { storage: storage([], [base]) }));
  assert.deepEqual(brief(steps), [
    ['a', 1, []],
    ['b', 0, []],
  ]);
});

test('an image that lists one layer twice brings it once', () => {
  assert.deepEqual(brief(planSteps(facts([image('a', [layer('x'), layer('x')])]))), [['a', 1, []]]);
});

test('chains of leaders: a shared middle layer waits for the shared base', () => {
  const base = layer('base', 1000);
  const middle = layer('middle', 300);
  const steps = planSteps(facts([image('a', [base]), image('m1', [base, middle]), image('m2', [base, middle, layer('x')])]));
  assert.deepEqual(brief(steps), [
    ['a', 1, []],
    ['m1', 1, ['a']],
    ['m2', 1, ['a', 'm1']],
  ]);
});

test('a damaged record is replaced, and the layers that go with it are brought again', () => {
  const base = layer('base');
  const broken = stored('a', ['its layer x is not known']);
  const steps = planSteps(facts([image('a', [base])], { storage: storage([broken], [base]) }));
  assert.deepEqual(loadsOf(steps), [
    {
      kind: 'load',
      image: image('a', [base]),
      writes: [base],
      writeBytes: 100,
      after: [],
      replaces: [{ image: broken, reason: 'its layer x is not known' }],
    },
  ]);
});

test('an image that was not synced before the machine went down is replaced although storage lists it', () => {
  const steps = planSteps(facts([image('a', [])], { storage: storage([stored('a')]), suspect: new Set(['a']) }));
  assert.deepEqual(
    loadsOf(steps).map((act) => act.replaces.map((replaced) => replaced.reason)),
    [['the machine went down before its files were known to be on the disk']],
  );
});

test('a record of the same name and another digest is left to the copy, which takes the name over', () => {
  const other = { ...stored('a'), digests: [digestOf('other')] };
  assert.deepEqual(
    loadsOf(planSteps(facts([image('a', [])], { storage: storage([other]) }))).map((act) => act.replaces),
    [[]],
  );
});

test('refused images come last, with their error', () => {
  const refused = { reference: 'r', error: { code: 'ERR_ARCHIVE_MISSING', message: 'm', remedy: 'r' } } as const;
  assert.deepEqual(planSteps(facts([], { refused: [refused] })), [{ kind: 'refuse', image: refused }]);
});

test('when a leader fails, the first that waited brings its layers and the others wait for that one', () => {
  const base = layer('base', 1000);
  const steps = loadsOf(planSteps(facts([image('a', [base]), image('b', [base, layer('b')]), image('c', [base, layer('c')])])));
  const [leader, ...waiting] = steps;
  assert.ok(leader);
  assert.deepEqual(brief(promoteAfterFailure(waiting, leader)), [
    ['b', 2, []],
    ['c', 1, ['b']],
  ]);
});

test('when a leader fails whose layers the heir lacks in part, the others bring that part themselves', () => {
  const [base, middle] = [layer('base', 1000), layer('middle', 900)];
  const lead: LoadStep = {
    kind: 'load',
    image: image('l', [base, middle]),
    writes: [base, middle],
    writeBytes: 1900,
    after: [],
    replaces: [],
  };
  const heir: LoadStep = { kind: 'load', image: image('h', [base]), writes: [], writeBytes: 0, after: ['l'], replaces: [] };
  const other: LoadStep = { kind: 'load', image: image('o', [base, middle]), writes: [], writeBytes: 0, after: ['l'], replaces: [] };
  assert.deepEqual(
    promoteAfterFailure([heir, other], lead).map((act) => [act.image.reference, act.writeBytes, act.after]),
    [
      ['h', 1000, []],
      ['o', 900, ['h']],
    ],
  );
});

test('when an image fails that nobody waits for, nothing changes', () => {
  const [lone] = loadsOf(planSteps(facts([image('a', [layer('x')])])));
  assert.ok(lone);
  const free: LoadStep = { ...lone, image: image('f', []) };
  assert.deepEqual(promoteAfterFailure([free], lone), [free]);
});

const layerNames = fc.uniqueArray(fc.integer({ min: 0, max: 12 }), { maxLength: 6 });
const imageSets = fc.array(layerNames, { maxLength: 15 }).map((sets) =>
  sets.map((layers, i) =>
    image(
      `i${i}`,
      layers.map((n) => layer(`l${n}`, (n + 1) * 10)),
    ),
  ),
);

/** Runs the steps in their order, with failures, and checks that whoever starts finds or brings every layer. */
function settle(
  steps: readonly LoadStep[],
  failing: ReadonlySet<string>,
): { readonly written: readonly Digest[]; readonly order: readonly string[] } {
  let waiting = [...steps];
  const done = new Set<string>();
  const have = new Set<Digest>();
  const written: Digest[] = [];
  while (waiting.length > 0) {
    const next = waiting.find((act) => act.after.every((reference) => done.has(reference)));
    assert.ok(next, 'some image can always start');
    waiting = waiting.filter((act) => act !== next);
    done.add(next.image.reference);
    if (failing.has(next.image.reference)) {
      waiting = [...promoteAfterFailure(waiting, next)];
      continue;
    }
    for (const write of next.writes) {
      written.push(write.digest);
      have.add(write.digest);
    }
    for (const needed of next.image.layers) assert.ok(have.has(needed.digest), `${next.image.reference} finds ${needed.digest}`);
  }
  return { written, order: [...done] };
}

test('images that are alike in work go by the size of their archives, and leaders that are alike by name', () => {
  const steps = planSteps(facts([image('b', [layer('x')], 5), image('a', [layer('y')], 9), image('c', [layer('z')], 9)]));
  assert.deepEqual(
    loadsOf(steps).map((act) => act.image.reference),
    ['a', 'c', 'b'],
  );
});

test('each record of storage, and each layer of an image, is looked at a few times, however many there are', () => {
  const counted = (count: number): number => {
    let looks = 0;
    const watched = <T extends object>(value: T): T =>
      new Proxy(value, {
        get: (target, key): unknown => {
          looks++;
          return Reflect.get(target, key);
        },
      });
    const base = layer('base');
    const images = Array.from({ length: count }, (_, index) => image(`i${index}`, [watched(base), watched(layer(`l${index}`))]));
    const records = images.slice(0, count / 2).map(({ reference }) => watched(stored(reference)));
    planSteps(facts(images, { storage: storage(records) }));
    return looks;
  };
  assert.ok(counted(1000) < 12 * counted(100), `${counted(100)} looks for 100 images, ${counted(1000)} for 1000`);
});

test('law: every image is planned once, can start, and finds its layers; no layer is brought twice', () => {
  fc.assert(
    fc.property(imageSets, (images) => {
      const loads = loadsOf(planSteps(facts(images)));
      const { written, order } = settle(loads, new Set());
      assert.deepEqual(order.toSorted(), images.map((i) => i.reference).toSorted());
      assert.equal(new Set(written).size, written.length);
    }),
  );
});

test('law: whatever images fail, those that do not still find their layers', () => {
  fc.assert(
    fc.property(imageSets, fc.array(fc.nat(14)), (images, failing) => {
      settle(loadsOf(planSteps(facts(images))), new Set(failing.map((n) => `i${n}`)));
    }),
  );
});

test('law: the same facts give the same steps, in whatever order the images are listed', () => {
  fc.assert(
    fc.property(imageSets, (images) => {
      assert.deepEqual(planSteps(facts(images.toReversed())), planSteps(facts(images)));
    }),
  );
});
