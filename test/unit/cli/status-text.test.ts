import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Paint } from '../../../agent/cli/output.ts';
import { heightOf } from '../../../agent/cli/screen.ts';
import { statusText } from '../../../agent/cli/status-text.ts';
import { digestOf } from '../../../agent/model/digest.ts';
import type { ImageState, RunState } from '../../../agent/model/run-state.ts';
import { assessRun, type StatusReport } from '../../../agent/status/assess.ts';
import type { StatusFacts } from '../../../agent/status/facts.ts';
import { ASK_AS_ROOT, seen, type Unseen } from '../../../agent/status/look.ts';
import { assertGolden } from '../../support/golden.ts';

const SCREEN = { columns: 80, rows: 24 };
const NOW = new Date('2026-11-21T08:58:20.000Z');
const plain: Paint = (_style, text) => text;
const COUNTS = [0, 7, 200] as const;
const REPOSITORY = 'quay.io/openshift-release-dev/ocp-v4.0-art-dev';

const imageOf = (index: number): ImageState => {
  const digest = digestOf(String(index));
  const reference = index % 7 === 0 ? `registry.example.com/tools/helper-${index}:latest` : `${REPOSITORY}@${digest}`;
  return {
    reference,
    names: [reference],
    digests: [digest],
    state: 'loaded',
    ...(index % 7 === 1 && { components: ['etcd'] }),
    ...(index % 7 === 2 && { components: ['machine-config-operator', 'machine-config-daemon'] }),
  };
};
const failed = (image: ImageState, index: number): ImageState => {
  const archive = `/run/prestage-agent/partition/image-${index}.tgz`;
  const reason = `${archive}: the file ends after 1000000 bytes, before its gzip stream does`;
  const error = { code: 'ERR_ARCHIVE_TRUNCATED', message: reason, remedy: 'Write the archive again at the factory' } as const;
  return { ...image, state: 'failed', reason, error };
};
const runOf = (images: readonly ImageState[], rest: Partial<RunState> = {}): RunState => ({
  apiVersion: 'prestage-agent/v1',
  kind: 'RunState',
  agentVersion: '0.1.0',
  bootId: 'b1',
  pid: 7,
  processStartTicks: 2,
  startedAt: '2026-11-21T08:47:12.167Z',
  finishedAt: '2026-11-21T08:47:13.567Z',
  durationMs: 1400,
  stage: 'discovery',
  policy: 'open',
  phase: 'finished',
  outcome: 'complete',
  source: { kind: 'partition', label: 'data', device: '/dev/nvme0n1p5', fileSystem: 'xfs' },
  payload: 'archives',
  architecture: 'amd64',
  delivery: { kind: 'extract', reason: 'the archives payload is loaded into containers-storage' },
  storage: { graphroot: '/var/lib/containers/storage', runroot: '/run/containers/storage' },
  bytes: { total: 14_680_064, done: 14_680_064 },
  notices: [],
  images: [...images],
  unsynced: [],
  suspect: [],
  ...rest,
});
const unfinished = (images: readonly ImageState[]): RunState => {
  const { outcome: _outcome, finishedAt: _end, durationMs: _took, ...rest } = runOf(images, { phase: 'loading' });
  return {
    ...rest,
    bytes: { total: 14_680_064, done: 7_340_032 },
    timeline: { phases: [{ name: 'loading', startMs: 2000 }], steps: [] },
    images: images.map((image, index) => ({ ...image, state: index < 2 ? 'loading' : index < images.length / 2 ? 'loaded' : 'pending' })),
  };
};
const DENIED: Unseen = { kind: 'unseen', reason: 'this user may not read it', remedy: ASK_AS_ROOT };
const factsOf = (state: RunState | undefined, rest: Partial<StatusFacts> = {}): StatusFacts => ({
  state,
  isDamaged: false,
  isAlive: seen(false),
  isSameBoot: true,
  storage: seen({
    images: (state?.images ?? []).map(({ names, digests }) => ({ id: names[0] ?? '', names, digests, damage: [] })),
    layers: new Set(),
  }),
  dangling: seen([]),
  store: seen({ open: undefined, probe: seen({ kind: 'readable' }) }),
  mirrors: seen([]),
  registries: [],
  files: seen([]),
  crio: seen('not-running'),
  architecture: 'amd64',
  ...rest,
});

/** The facts of each readiness with a number of images. */
const SCENES: Readonly<Record<StatusReport['status']['readiness'], (images: readonly ImageState[]) => StatusFacts>> = {
  'never-run': () => factsOf(undefined),
  ready: (images) => factsOf(runOf(images)),
  running: (images) => factsOf(unfinished(images), { isAlive: seen(true) }),
  unknown: (images) => factsOf(runOf(images), { storage: DENIED, mirrors: DENIED }),
  degraded: (images) =>
    factsOf(runOf(images), { dangling: seen(images.map((_, index) => `container app-${index} of pod shop/web-${index}`)) }),
  partial: (images) =>
    factsOf(
      runOf(
        images.map((image, index) => (index % 7 < 2 ? failed(image, index) : image)),
        { outcome: 'partial' },
      ),
    ),
  failed: (images) =>
    factsOf(
      runOf(
        images.map((image, index) =>
          index % 2 === 0 ? failed(image, index) : { ...image, state: 'skipped', reason: ERROR.message, error: ERROR },
        ),
        {
          outcome: 'failed',
          error: ERROR,
        },
      ),
    ),
  interrupted: (images) => factsOf(unfinished(images)),
  released: (images) => factsOf(runOf(images, { releasedAt: '2026-11-21T08:57:20.000Z' })),
};
const ERROR = {
  code: 'ERR_SPACE_STORAGE',
  message: '/var/lib/containers/storage needs 12.3 GiB but has 1.2 GiB free',
  remedy: 'Remove images that are not needed, or give --graphroot on a larger file system',
} as const;

const reportOf = (readiness: StatusReport['status']['readiness'], count: number): StatusReport =>
  assessRun(SCENES[readiness](Array.from({ length: count }, (_, index) => imageOf(index))));

describe('the text of status', () => {
  const readinesses = Object.keys(SCENES) as readonly (keyof typeof SCENES)[];
  for (const readiness of readinesses)
    for (const count of COUNTS)
      it(`is one screen if the machine is ${readiness} with ${count} images, with verdict and next act at its top`, () => {
        const report = reportOf(readiness, count);
        const text = statusText(report, { now: NOW, all: false, screen: SCREEN }, plain);
        const lines = text.split('\n');
        assert.ok(heightOf(lines, SCREEN) < SCREEN.rows, text);
        assert.ok(
          lines.every((line) => line.length <= SCREEN.columns),
          text,
        );
        assert.ok(text.startsWith(`${report.status.readiness}: `) && lines.slice(0, 12).some((line) => line.startsWith('next: ')), text);
        assertGolden(`status/${readiness}-${count}.txt`, `${text}\n`);
      });

  for (const screen of [
    { columns: 80, rows: 10 },
    { columns: 40, rows: 24 },
    { columns: 20, rows: 6 },
    { columns: 200, rows: 60 },
  ])
    it(`never has more rows than a console of ${screen.columns}x${screen.rows}`, () => {
      for (const readiness of readinesses) {
        const text = statusText(reportOf(readiness, 200), { now: NOW, all: false, screen }, plain);
        assert.ok(heightOf(text.split('\n'), screen) < screen.rows, text);
        assert.ok(text.startsWith(`${readiness}:`), text);
      }
    });

  it('names three images of each cause where there is no console, and cuts nothing', () => {
    const lines = statusText(reportOf('partial', 200), { now: NOW, all: false }, plain).split('\n');
    assert.equal(
      lines[0]?.startsWith('partial: 142 of 200 images are usable; first: registry.example.com/tools/helper-0:latest: /run/'),
      true,
    );
    assert.deepEqual(lines.slice(-5), [
      `    ${REPOSITORY}@${digestOf('1')} (etcd)`,
      `    ${REPOSITORY}@${digestOf('8')} (etcd)`,
      `    ${REPOSITORY}@${digestOf('15')} (etcd)`,
      '    … and 26 more: --all or --output json lists all',
      '    ERR_ARCHIVE_TRUNCATED',
    ]);
    assert.ok(lines.includes('  29 failed from registry.example.com: an archive ends before its gzip or tar stream is complete'));
  });

  it('with --all lists every image in the order of the list, each with reason and next step', () => {
    for (const screen of [undefined, SCREEN]) {
      const lines = statusText(reportOf('partial', 200), { now: NOW, all: true, ...(screen && { screen }) }, plain).split('\n');
      assert.equal(lines.filter((line) => /^ {2}(loaded|failed) /.test(line)).length, 200);
      assert.equal(lines.filter((line) => line === '           next: Write the archive again at the factory').length, 58);
      assert.equal(lines.filter((line) => line.startsWith('storage: ')).length, 1);
    }
  });

  it('marks words by the painter alone, and its rows are counted without the marks', () => {
    const marked: Paint = (style, text) => `<${style} ${text}>`;
    const view = { now: NOW, all: false, screen: SCREEN };
    const text = statusText(reportOf('partial', 7), view, marked);
    assert.ok(text.startsWith('<warn partial>: '), text);
    assert.equal(text.replace(/<[a-z]+ ([^>]+)>/g, '$1'), statusText(reportOf('partial', 7), view, plain));
  });

  it('tells an error of the run with its code, and its message only if the verdict does not', () => {
    const withheld = { code: 'ERR_MIRROR_UNSIGNED', message: 'the mirror has no signatures', remedy: 'Pull with signatures' } as const;
    const report = assessRun(factsOf(runOf([imageOf(1)], { withheld }), { dangling: seen(['layer l1']) }));
    assert.ok(
      statusText(report, { now: NOW, all: false }, plain).includes('\nlast error: ERR_MIRROR_UNSIGNED: the mirror has no signatures\n'),
    );
  });

  it('tells a run by its source, and what it has set up', () => {
    const { source: _source, payload: _payload, architecture: _architecture, delivery: _delivery, ...bare } = runOf([imageOf(1)]);
    const linesOf = (state: RunState): readonly string[] =>
      statusText(assessRun(factsOf(state)), { now: NOW, all: false }, plain).split('\n');
    assert.deepEqual(linesOf(bare).slice(4), [
      'last run:  2026-11-21T08:47:12.167Z (11 minutes ago), took 1.4 s, agent 0.1.0',
      'stage:     discovery (policy open)',
      'source:    none: the run ended before it chose one',
      'storage:   /var/lib/containers/storage',
    ]);
    const store = {
      path: '/var/lib/prestage-agent/store',
      image: '/run/prestage-agent/data/store/installed.squashfs',
      sha256: 'a'.repeat(64),
      trust: 'verity',
      trustReason: 'the kernel has device-mapper',
      placement: 'partition',
      verified: 'kernel',
    } as const;
    const full = linesOf({
      ...bare,
      payload: 'store',
      source: { kind: 'disk', label: 'data', path: '/var/lib/prestage-agent/bundle' },
      store,
      registry: { address: '127.0.0.1:305', how: 'quadlet', tree: '/run/prestage-agent/mirror', image: 'r' },
      osImage: { references: ['quay.io/e/os:1'], state: 'stored', reason: 'only in the store' },
      notices: ['a notice'],
    });
    assert.deepEqual(
      full.filter((line) => /^(source|payload|registry|store|trust|system|notice):/.test(line)),
      [
        'source:    copy on the disk, /var/lib/prestage-agent/bundle: there is no partition "data"',
        'payload:   store',
        'registry:  127.0.0.1:305 (quadlet), serves /run/prestage-agent/mirror',
        'store:     /run/prestage-agent/data/store/installed.squashfs on /var/lib/prestage-agent/store, from partition',
        'trust:     verity: the kernel has device-mapper; the kernel checks what it reads',
        'system:    stored, only in the store, quay.io/e/os:1',
        'notice:    a notice',
      ],
    );
    for (const [source, text] of [
      [{ kind: 'directory', path: '/b' }, 'source:    directory /b'],
      [{ kind: 'partition', label: 'data' }, 'source:    partition "data", not opened'],
    ] as const)
      assert.ok(linesOf({ ...bare, source }).includes(text));
  });

  it('tells no time left before anything is read', () => {
    const state = unfinished([imageOf(1)]);
    const { timeline: _timeline, ...rest } = state;
    const textOf = (of: RunState): string =>
      statusText(assessRun(factsOf(of, { isAlive: seen(true) })), { now: NOW, all: true, screen: SCREEN }, plain);
    assert.match(textOf({ ...state, bytes: { total: 1024, done: 0 } }), /^archives: {2}0 B of 1\.0 KiB read$/m);
    assert.match(textOf(rest), /^archives: {2}7\.0 MiB of 14\.0 MiB read, about 11 min 08 s left$/m);
  });
});
