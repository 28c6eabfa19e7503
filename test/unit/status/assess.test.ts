import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { UnitEnd } from '../../../agent/host/unit-end.ts';
import { digestOf } from '../../../agent/model/digest.ts';
import type { ImageState, RunState } from '../../../agent/model/run-state.ts';
import { assessRun } from '../../../agent/status/assess.ts';
import type { StatusFacts, StoreNow } from '../../../agent/status/facts.ts';
import { ASK_AS_ROOT, seen, type Unseen } from '../../../agent/status/look.ts';
import type { StoredImage } from '../../../agent/storage/records.ts';

const error = { code: 'ERR_LOAD', message: 'skopeo could not load b', remedy: 'Look at the disk' } as const;
const image = (reference: string, state: ImageState['state'], rest: Partial<ImageState> = {}): ImageState => ({
  reference,
  names: [reference],
  digests: [digestOf(reference)],
  state,
  ...rest,
});
const stored = (reference: string, damage: readonly string[] = []): StoredImage => ({
  id: reference,
  names: [reference],
  digests: [digestOf(reference)],
  damage,
});
const run = (rest: Partial<RunState> = {}): RunState => ({
  apiVersion: 'prestage-agent/v1',
  kind: 'RunState',
  agentVersion: '1',
  bootId: 'b1',
  pid: 7,
  processStartTicks: 2,
  startedAt: 'T',
  stage: 'installed',
  policy: 'open',
  phase: 'finished',
  outcome: 'complete',
  bytes: { total: 1, done: 1 },
  notices: [],
  images: [image('a', 'loaded'), image('b', 'present')],
  unsynced: [],
  suspect: [],
  ...rest,
});
const unfinished = (): RunState => {
  const { outcome: _, ...rest } = run({ phase: 'loading' });
  return rest;
};
const facts = (rest: Partial<StatusFacts> = {}): StatusFacts => ({
  state: run(),
  isDamaged: false,
  isAlive: seen(false),
  isSameBoot: true,
  storage: storage(stored('a'), stored('b')),
  dangling: seen([]),
  store: seen({ open: undefined, probe: seen({ kind: 'readable' }) }),
  mirrors: seen([]),
  registries: [],
  files: seen([]),
  crio: seen('not-running'),
  architecture: 'amd64',
  ...rest,
});
const storage = (...images: readonly StoredImage[]): StatusFacts['storage'] => seen({ images, layers: new Set() });
const DENIED: Unseen = { kind: 'unseen', reason: 'this user may not read it', remedy: ASK_AS_ROOT };
const verdict = (rest: Partial<StatusFacts>) => {
  const { readiness, reason, exitCode } = assessRun(facts(rest)).status;
  return [readiness, reason, exitCode];
};

test('records that stand on a store that is gone keep a node from being ready, though it has its images', () => {
  const { status } = assessRun(facts({ dangling: seen(['container app of pod shop/web', 'layer l1']) }));
  assert.deepEqual(
    [status.readiness, status.reason, status.nextStep, status.exitCode],
    [
      'degraded',
      'storage has records that need a store image that is gone, and engines fail on them: container app of pod shop/web, layer l1',
      'Remove them: prestage-agent run --stage installed',
      3,
    ],
  );
});

test('a machine on which nothing has run says so', () => {
  const { status } = assessRun(facts({ state: undefined }));
  assert.deepEqual([status.readiness, status.exitCode, status.run, status.images], ['never-run', 10, undefined, []]);
});

test('a record that is damaged is told from none', () => {
  assert.equal(assessRun(facts({ state: undefined, isDamaged: true })).status.reason, 'the record of the last run is damaged');
});

test('all images in storage is ready', () => {
  assert.deepEqual(verdict({}), ['ready', 'all 2 images are in storage', 0]);
});

test('a run that goes on is unfinished', () => {
  assert.deepEqual(verdict({ state: unfinished(), isAlive: seen(true) }), [
    'running',
    'a run is in progress (process 7, phase loading)',
    10,
  ]);
});

test('a run whose process is gone was interrupted', () => {
  assert.deepEqual(verdict({ state: unfinished() }), [
    'interrupted',
    'the run that began at T ended unexpectedly (process 7 is gone) (phase loading)',
    11,
  ]);
});

test('a run of another boot was interrupted by it', () => {
  assert.deepEqual(verdict({ state: unfinished(), isSameBoot: false }), [
    'interrupted',
    'the run that began at T was interrupted by a reboot or a power cut (phase loading)',
    11,
  ]);
});

test('a run that was asked to end was interrupted', () => {
  assert.deepEqual(verdict({ state: run({ outcome: 'interrupted' }) }), [
    'interrupted',
    'the run that began at T was asked to stop (phase finished)',
    11,
  ]);
});

test('an image that has vanished since makes the node partial, and says what to do', () => {
  const report = assessRun(facts({ storage: storage(stored('a')) }));
  assert.deepEqual(
    [report.status.readiness, report.status.exitCode, report.status.nextStep, report.status.images[1]],
    [
      'partial',
      3,
      'Load the missing images: prestage-agent run --stage installed',
      { ...image('b', 'missing'), reason: 'it is no longer in storage' },
    ],
  );
});

test('an image that is damaged now is missing, with the damage', () => {
  const { status } = assessRun(facts({ storage: storage(stored('a'), stored('b', ['its layer is gone'])) }));
  assert.equal(status.images[1]?.reason, 'it is damaged: its layer is gone');
});

test('storage that could not be looked at is not ready, whatever the run left', () => {
  const { status } = assessRun(facts({ storage: DENIED }));
  assert.deepEqual(
    [status.readiness, status.reason, status.nextStep, status.exitCode, status.storageChecked, status.unseen],
    [
      'unknown',
      'no fault was found, but not everything could be checked: containers-storage (this user may not read it)',
      'Run it as root: sudo prestage-agent status',
      12,
      false,
      [{ what: 'containers-storage', reason: 'this user may not read it' }],
    ],
  );
});

test('storage that no image relies on need not be seen', () => {
  const state = run({ images: [image('a', 'served')], registry: REGISTRY });
  const { status } = assessRun(facts({ state, storage: DENIED, registries: [answers(true)] }));
  assert.deepEqual([status.readiness, status.exitCode, status.storageChecked, status.unseen], ['ready', 0, false, undefined]);
});

test('where the unit of this boot ended well, or none was started, the record of another boot is judged as it is', () => {
  const ready = ['ready', 'all 2 images are in storage', 0];
  assert.deepEqual(verdict({ units: [{ ...unit, how: { kind: 'exit', code: 0 } }], isSameBoot: false }), ready);
  assert.deepEqual(verdict({ units: [], isSameBoot: false }), ready);
  assert.deepEqual(verdict({ isSameBoot: false }), ready);
});

test('a record that this user may not read is neither none nor ready', () => {
  const { status } = assessRun(facts({ state: undefined, stateUnseen: DENIED }));
  assert.deepEqual(
    [status.readiness, status.reason, status.nextStep, status.exitCode],
    ['unknown', 'the record of the last run cannot be read: this user may not read it', ASK_AS_ROOT, 12],
  );
});

test('a run whose process cannot be seen is neither running nor interrupted', () => {
  assert.deepEqual(verdict({ state: unfinished(), isAlive: DENIED }), [
    'unknown',
    'no fault was found, but not everything could be checked: the process of the run (this user may not read it)',
    12,
  ]);
});

test('a partial node says of what it has not looked at', () => {
  const state = run({ outcome: 'partial', images: [image('a', 'loaded'), image('b', 'failed', { reason: error.message, error })] });
  assert.deepEqual(verdict({ state, storage: DENIED }), [
    'partial',
    '1 of 2 images are usable; first: b: skopeo could not load b; not checked: containers-storage (this user may not read it)',
    3,
  ]);
});

test('a failed image is the reason, and its remedy the next step', () => {
  const { status } = assessRun(
    facts({ state: run({ outcome: 'partial', images: [image('a', 'loaded'), image('b', 'failed', { reason: error.message, error })] }) }),
  );
  assert.deepEqual(
    [status.readiness, status.reason, status.nextStep, status.lastError],
    ['partial', '1 of 2 images are usable; first: b: skopeo could not load b', 'Look at the disk', error],
  );
});

test('an image without a reason is named by its state', () => {
  assert.deepEqual(verdict({ state: run({ outcome: 'failed', images: [image('c', 'skipped')] }) }), [
    'failed',
    '0 of 1 images are usable; first: c: skipped',
    4,
  ]);
});

test('an error of the whole run decides, with its own exit code', () => {
  const missing = { code: 'ERR_PARTITION_MISSING', message: 'no partition', remedy: 'Attach it' } as const;
  assert.deepEqual(verdict({ state: run({ outcome: 'failed', images: [], error: missing }) }), ['failed', 'no partition', 5]);
  assert.deepEqual(verdict({ state: run({ outcome: 'complete', error: missing }) }), ['failed', 'no partition', 5]);
  assert.deepEqual(verdict({ state: run({ error: missing, store: STORE }), store: mounted(OPEN) }), ['degraded', 'no partition', 5]);
});

test('with some images loaded, an error of the run leaves it partial, and is told before what it has cost', () => {
  const archive = { code: 'ERR_ARCHIVE_TAR', message: 'a.tar: it is compressed (gzip)', remedy: 'Copy a.tar again' } as const;
  const images = [image('a', 'loaded'), image('b', 'failed', { reason: error.message, error })];
  const { status } = assessRun(facts({ state: run({ outcome: 'partial', error: archive, images }) }));
  assert.deepEqual(
    [status.readiness, status.reason, status.nextStep, status.lastError],
    ['partial', 'a.tar: it is compressed (gzip); 1 of 2 images are usable; first: b: skopeo could not load b', 'Copy a.tar again', archive],
  );
});

const STORE: NonNullable<RunState['store']> = {
  path: '/store',
  image: '/image',
  sha256: 'ab'.repeat(32),
  trust: 'background',
  trustReason: 'r',
  placement: 'partition',
  verified: 'pending',
};

const OPEN: NonNullable<StoreNow['open']> = { image: '/image', sha256: STORE.sha256, verified: 'pending' };
const mounted = (open: StoreNow['open'], probe: StoreNow['probe'] = seen({ kind: 'readable' })): StatusFacts['store'] =>
  seen({ open, probe });
const REGISTRY: NonNullable<RunState['registry']> = { address: '127.0.0.1:305', how: 'unit', tree: '/mirror', image: 'registry' };
const answers = (healthy: boolean, address = REGISTRY.address): StatusFacts['registries'][number] => ({
  address,
  answer: seen({ healthy, reason: healthy ? 'it answers' : 'refused' }),
});

test('what was found out of a store after the run stands in the status', () => {
  const state = run({ store: STORE });
  assert.equal(assessRun(facts({ state, store: DENIED })).status.run?.store?.verified, 'pending');
  assert.equal(assessRun(facts({ state, store: mounted({ ...OPEN, verified: 'yes' }) })).status.run?.store?.verified, 'yes');
});

test('a store that is mounted and can be read is ready', () => {
  assert.deepEqual(verdict({ state: run({ store: STORE }), store: mounted(OPEN) }), ['ready', 'all 2 images are in storage', 0]);
});

const closed: Readonly<Record<string, readonly [facts: Partial<StatusFacts>, reason: string]>> = {
  'is not mounted': [{ store: mounted(undefined) }, 'the store image /image is not mounted'],
  'is not mounted since the machine was booted': [
    { store: mounted(undefined), isSameBoot: false },
    'the store image /image is not mounted: the machine was rebooted after the run',
  ],
  'is not the one that is mounted': [
    { store: mounted({ ...OPEN, image: '/other', sha256: 'cd'.repeat(32) }) },
    'another store image, /other, is mounted instead of the one that the run opened',
  ],
  'cannot be read': [
    { store: mounted(OPEN, seen({ kind: 'unreadable', path: '/image', reason: 'EIO' })) },
    'the store image /image cannot be read: /image: EIO',
  ],
};
for (const [what, [rest, reason]] of Object.entries(closed)) {
  test(`a node whose store image ${what} has none of its images, whoever asks`, () => {
    const expected = ['failed', `0 of 2 images are usable; first: a: ${reason}`, 4];
    const state = run({ store: STORE });
    assert.deepEqual(verdict({ state, storage: DENIED, ...rest }), expected);
    assert.deepEqual(verdict({ state, storage: storage(), ...rest }), expected);
  });
}

test('a node that has its images without the store, though it should have the store, is degraded', () => {
  const { status } = assessRun(facts({ state: run({ store: STORE }) }));
  assert.deepEqual(
    [status.readiness, status.reason, status.nextStep, status.exitCode],
    ['degraded', 'the store image /image is not mounted', 'Mount it again: prestage-agent run --stage installed', 3],
  );
});

test('images whose store cannot be read do not count as there because their records can be', () => {
  const store = mounted(OPEN, seen({ kind: 'unreadable', path: '/image', reason: 'EIO' }));
  assert.equal(verdict({ state: run({ store: STORE }), store })[0], 'failed');
});

test('of a store, what could not be looked at is named part by part', () => {
  const state = run({ store: STORE });
  const whatOf = (rest: Partial<StatusFacts>) => {
    const { status } = assessRun(facts({ state, ...rest }));
    return [status.readiness, status.unseen?.map(({ what }) => what)];
  };
  assert.deepEqual(whatOf({ store: mounted(OPEN, DENIED) }), ['unknown', ['the content of the store image']]);
  assert.deepEqual(whatOf({ store: DENIED, storage: DENIED, files: DENIED, crio: DENIED, mirrors: DENIED }), [
    'unknown',
    [
      'containers-storage',
      'the mounted store image',
      'our mirrors in registries.conf',
      'the files that point engines to the store and the mirrors',
      'whether CRI-O knows the store',
    ],
  ]);
  const other: Unseen = { kind: 'unseen', reason: 'it is no TOML', remedy: 'Correct the file' };
  const { status } = assessRun(facts({ storage: DENIED, mirrors: other }));
  assert.equal(status.nextStep, `${ASK_AS_ROOT}; Correct the file`);
});

test('images that are served count as long as the registry answers', () => {
  const state = run({ images: [image('a', 'served'), image('b', 'served')], registry: REGISTRY });
  const mixed = run({ images: [image('a', 'served'), image('b', 'present')], registry: REGISTRY });
  assert.deepEqual(verdict({ state, registries: [answers(true)] }), ['ready', 'all 2 images are served', 0]);
  assert.deepEqual(verdict({ state: mixed, registries: [answers(true)] }), ['ready', 'all 2 images are in storage or served', 0]);
  assert.deepEqual(verdict({ state, registries: [answers(false)] }), [
    'failed',
    '0 of 2 images are usable; first: a: the registry that serves it does not answer: refused',
    4,
  ]);
  assert.deepEqual(verdict({ state, registries: [{ address: REGISTRY.address, answer: DENIED }] }), [
    'unknown',
    'no fault was found, but not everything could be checked: the registry at 127.0.0.1:305 (this user may not read it)',
    12,
  ]);
});

test('a node is degraded that pulls from the sources what a policy refuses from its mirror', () => {
  const withheld = { code: 'ERR_MIRROR_UNSIGNED', message: 'engines would refuse quay.io/a', remedy: 'Pull with signatures' } as const;
  const { status } = assessRun(facts({ state: run({ outcome: 'complete', withheld }) }));
  assert.deepEqual(
    [status.readiness, status.reason, status.nextStep, status.exitCode, status.lastError],
    ['degraded', 'engines would refuse quay.io/a', 'Pull with signatures', 13, withheld],
  );
});

test('a node without a policy is degraded, whatever else is right, and before mirrors that were kept back', () => {
  const withheld = { code: 'ERR_MIRROR_UNSIGNED', message: 'engines would refuse quay.io/a', remedy: 'Pull with signatures' } as const;
  const missingPolicy = { code: 'ERR_POLICY_MISSING', message: 'there is no policy.json', remedy: 'Restore it' } as const;
  for (const more of [{}, { withheld }]) {
    const { status } = assessRun(facts({ state: run({ outcome: 'complete', ...more }), missingPolicy }));
    assert.deepEqual(
      [status.readiness, status.reason, status.nextStep, status.exitCode, status.lastError],
      ['degraded', 'there is no policy.json', 'Restore it', 13, missingPolicy],
    );
  }
});

test('a node whose images are there and whose registry does not answer is degraded', () => {
  const { status } = assessRun(facts({ state: run({ registry: REGISTRY }), registries: [answers(false)] }));
  assert.deepEqual(
    [status.readiness, status.reason, status.nextStep, status.exitCode],
    ['degraded', 'the registry at 127.0.0.1:305 does not answer: refused', 'Start it again: prestage-agent run --stage installed', 3],
  );
});

test('a mirror of ours that nobody answers for is degraded, though the run started no registry', () => {
  assert.deepEqual(verdict({ registries: [answers(true, '127.0.0.1:1'), answers(false)] }), [
    'degraded',
    '127.0.0.1:305, a mirror of ours in registries.conf, does not answer: refused',
    3,
  ]);
});

test('a file that no longer tells engines what the run needs is degraded', () => {
  const file = (path: string, fault: 'gone' | 'changed' | 'untold', about: 'store' | 'mirrors') => ({ path, fault, about });
  const files = seen([file('/etc/a', 'gone', 'store'), file('/etc/b', 'changed', 'mirrors'), file('/etc/c', 'untold', 'store')]);
  const of = (state: RunState) => {
    const { status } = assessRun(facts({ state, files, store: mounted(OPEN), registries: [answers(true)] }));
    return [status.readiness, status.reason, status.nextStep, status.exitCode];
  };
  assert.deepEqual(of(run({ store: STORE, registry: REGISTRY })), [
    'degraded',
    '/etc/a, which points engines to the store, is missing; /etc/b, which points engines to the mirrors, was changed after the agent wrote it; /etc/c no longer points engines to the store',
    'Write it again: prestage-agent run --stage installed',
    3,
  ]);
  assert.deepEqual(of(run({ registry: REGISTRY }))[1], '/etc/b, which points engines to the mirrors, was changed after the agent wrote it');
  assert.equal(of(run())[0], 'ready');
});

test('a CRI-O that does not know the store is degraded until it is restarted', () => {
  const of = (state: RunState, crio: 'aware' | 'unaware') => {
    const { status } = assessRun(facts({ state, store: mounted(OPEN), crio: seen(crio) }));
    return [status.readiness, status.reason, status.nextStep, status.exitCode];
  };
  assert.deepEqual(of(run({ store: STORE }), 'unaware'), [
    'degraded',
    'CRI-O was started before the store was configured, and looks for stores only when it starts',
    'Restart CRI-O: systemctl restart crio',
    3,
  ]);
  assert.equal(of(run({ store: STORE }), 'aware')[0], 'ready');
  assert.equal(of(run(), 'unaware')[0], 'ready');
});

test('a run that kept its mirror back waits for CRI-O, and then for another run', () => {
  const kept = { code: 'ERR_CRIO_STORE', message: 'CRI-O does not see it', remedy: 'Restart CRI-O, then start the run again' } as const;
  const of = (crio: StatusFacts['crio']) => {
    const { status } = assessRun(facts({ state: run({ store: STORE, error: kept }), store: mounted(OPEN), crio }));
    return [status.readiness, status.reason, status.nextStep, status.exitCode];
  };
  assert.deepEqual(of(seen('unaware')), ['degraded', kept.message, kept.remedy, 3]);
  assert.deepEqual(of(DENIED), ['degraded', kept.message, kept.remedy, 3]);
  assert.deepEqual(of(seen('aware')), [
    'degraded',
    'CRI-O was restarted and now knows the store, but the mirror for the store is not set up yet',
    'Start the run again: prestage-agent run --stage installed',
    3,
  ]);
});

test('a bundle for another architecture is not ready', () => {
  assert.equal(verdict({ state: run({ architecture: 'amd64' }) })[0], 'ready');
  assert.deepEqual(verdict({ state: run({ architecture: 'arm64' }) }), [
    'failed',
    'the bundle is for arm64, but this machine is amd64: its images do not run here',
    6,
  ]);
});

test('a node that was healed is degraded, and says what was done', () => {
  const gone = { code: 'ERR_ARCHIVE_MISSING', message: 'the store image is gone', remedy: 'Write the bundle again' } as const;
  const healed = run({ outcome: 'failed', error: gone, images: [], healed: ['the empty store is in place', '2 records removed'] });
  assert.deepEqual(verdict({ state: healed }), [
    'degraded',
    'the store image is gone; done so that engines work: the empty store is in place, 2 records removed',
    6,
  ]);
  assert.deepEqual(verdict({ state: run({ outcome: 'failed', error: gone, images: [], healed: [] }) }), [
    'degraded',
    'the store image is gone',
    6,
  ]);
  assert.deepEqual(verdict({ state: run({ error: gone }) }), ['degraded', 'the store image is gone', 6]);
});

test('a node that was released says so', () => {
  assert.deepEqual(verdict({ state: run({ releasedAt: 'T2' }) }), ['released', 'the setup of this machine was undone at T2', 10]);
});

const unit: UnitEnd = {
  unit: 'prestage-agent-installed.service',
  stage: 'installed',
  pid: 7,
  how: { kind: 'signal', name: 'SIGTRAP' },
};

test('where the unit of this boot was ended before it left a record, no record of another boot is ready', () => {
  const said = 'no run has left a record in this boot: prestage-agent-installed.service was terminated by SIGTRAP';
  assert.deepEqual(verdict({ units: [unit], isSameBoot: false }), ['interrupted', said, 11]);
  assert.deepEqual(verdict({ units: [unit], isSameBoot: false, state: undefined }), ['interrupted', said, 11]);
  assert.deepEqual(verdict({ units: [unit], isSameBoot: false, state: undefined, isDamaged: true }), ['interrupted', said, 11]);
});

test('a record that this user may not read is not taken for none, whatever became of the unit', () => {
  const { readiness } = assessRun(facts({ state: undefined, isSameBoot: false, stateUnseen: DENIED, units: [unit] })).status;
  assert.equal(readiness, 'unknown');
});

test('a run of this boot is what its record says, whatever became of the unit', () => {
  assert.deepEqual(verdict({ units: [unit] }), ['ready', 'all 2 images are in storage', 0]);
});

test('a run that ended without a word was ended as the unit says, where it was that of the unit', () => {
  const word = (why: string) => `the run that began at T ended unexpectedly (process 7 is gone${why}) (phase loading)`;
  assert.deepEqual(verdict({ state: unfinished(), units: [unit] }), [
    'interrupted',
    word(': prestage-agent-installed.service was terminated by SIGTRAP'),
    11,
  ]);
  assert.deepEqual(verdict({ state: unfinished(), units: [{ ...unit, pid: 8 }] }), ['interrupted', word(''), 11]);
});
