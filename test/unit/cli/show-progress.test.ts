import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { showBytes } from '../../../agent/cli/show-bytes.ts';
import { showProgress } from '../../../agent/cli/show-progress.ts';
import { showTotals } from '../../../agent/cli/show-totals.ts';
import type { Host } from '../../../agent/host/host.ts';
import { streamLog } from '../../../agent/host/log.ts';
import { textStream } from '../../../agent/host/text-stream.ts';

/** A clock that stands still until it is moved; the display's timer is the real one. */
function scene(options: { readonly isTTY?: boolean; readonly columns?: number; readonly env?: Host['env'] } = {}) {
  const written: string[] = [];
  const started: (readonly string[])[] = [];
  let nowMs = 0;
  const terminal = { isTTY: options.isTTY, columns: options.columns, write: (text: string) => written.push(text) };
  const stream = textStream(terminal, { isJournal: false });
  const host: Host = {
    root: '/',
    env: options.env ?? {},
    architecture: 'amd64',
    cores: 2,
    log: streamLog(stream, { journal: false }),
    clock: { now: () => new Date(0), monotonicMs: () => nowMs, sleep: async () => undefined },
    exec: async (file, args) => {
      started.push([file, ...args]);
      return { stdout: '', stderr: '', exitCode: 0 };
    },
  };
  return {
    host,
    stream,
    started,
    /** Moves the clock and gives the display's timer a turn. */
    passes: async (ms: number) => {
      nowMs += ms;
      await new Promise((resolve) => setTimeout(resolve, 250));
    },
    jumps: (ms: number) => {
      nowMs += ms;
    },
    takeWritten: () => written.splice(0).join(''),
  };
}

const planned = { kind: 'planned', images: 3, alreadyDone: 1, toLoad: 2, bytes: 4096 } as const;
const begun = { kind: 'image-started', reference: 'quay.io/example/tool:1', bytes: 2048, attempt: 1 } as const;
const error = { code: 'ERR_LOAD', message: 'it broke', remedy: 'mend it' } as const;

describe('progress without a terminal', () => {
  it('is a line for each phase and each finished image, with n/N', () => {
    const { host, stream, takeWritten } = scene();
    using display = showProgress(host, stream);
    display.onEvent({ kind: 'phase', text: 'loading images' });
    display.onEvent(planned);
    display.onEvent(begun);
    display.onEvent({ kind: 'image-read', reference: begun.reference, bytesRead: 1024 });
    display.onEvent({ kind: 'image-copying', reference: begun.reference });
    display.onEvent({ kind: 'image-finished', reference: begun.reference, result: 'loaded', bytes: 2048 });
    display.onEvent({ kind: 'image-finished', reference: 'b', result: 'failed', bytes: 2048, error });
    assert.deepEqual(takeWritten().split('\n'), [
      'loading images',
      '3 images: 1 in storage, 2 to load (4.0 KiB)',
      '2/3 loaded quay.io/example/tool:1',
      'error: 3/3 failed b: ERR_LOAD: it broke',
      '',
    ]);
  });

  it('has no line for an image that was skipped because the run was interrupted', () => {
    const { host, stream, takeWritten } = scene();
    using display = showProgress(host, stream);
    const interrupted = { code: 'ERR_INTERRUPTED', message: 'the run was interrupted', remedy: 'Start it again' } as const;
    display.onEvent({ kind: 'image-finished', reference: 'a', result: 'skipped', bytes: 0, error: interrupted });
    assert.equal(takeWritten(), '');
  });

  it('tells that an image is tried again, and why', () => {
    const { host, stream, takeWritten } = scene();
    using display = showProgress(host, stream);
    display.onEvent({ kind: 'image-retried', reference: 'a', error, pauseMs: 2000 });
    assert.equal(takeWritten(), 'warning: a: it broke; retrying in 2 s\n');
  });

  it('is never silent for more than 10 seconds, and says what is at work', async () => {
    const { host, stream, passes, takeWritten } = scene();
    using display = showProgress(host, stream);
    display.onEvent({ kind: 'phase', text: 'loading images' });
    display.onEvent(planned);
    display.onEvent(begun);
    display.onEvent({ kind: 'image-read', reference: begun.reference, bytesRead: 1024 });
    takeWritten();
    await passes(9_999);
    assert.equal(takeWritten(), '');
    await passes(1);
    assert.equal(
      takeWritten(),
      'loading images: 1/3 images, 1.0 KiB of 4.0 KiB, 102 B/s, 30 s left; reading 50 % quay.io/example/tool:1\n',
    );
    await passes(9_999);
    assert.equal(takeWritten(), '');
    await passes(1);
    assert.match(takeWritten(), /^loading images: 1\/3 images, /);
  });

  it('has no control sequences, also on a dumb terminal', async () => {
    const { host, stream, passes, takeWritten } = scene({ isTTY: true, env: { TERM: 'dumb' } });
    using display = showProgress(host, stream);
    display.onEvent(planned);
    display.onEvent(begun);
    await passes(10_000);
    const text = takeWritten();
    assert.ok(text.includes('1/3 images') && !text.includes('\u001b'), text);
  });
});

describe('progress on a terminal', () => {
  it('is a live line per image at work and one with totals, drawn over by the next, with messages above', async () => {
    const { host, stream, passes, takeWritten } = scene({ isTTY: true, columns: 100, env: { TERM: 'xterm' } });
    using display = showProgress(host, stream);
    display.onEvent({ kind: 'phase', text: 'loading images' });
    display.onEvent(planned);
    display.onEvent(begun);
    await passes(1000);
    const drawn = takeWritten();
    assert.ok(
      drawn.endsWith('  reading 0 %            quay.io/example/tool:1\nloading images: 1/3 images, 0 B of 4.0 KiB, 0 B/s\n'),
      drawn,
    );
    display.onEvent({ kind: 'image-finished', reference: begun.reference, result: 'loaded', bytes: 2048 });
    assert.equal(takeWritten(), '\r\u001b[2A\u001b[J2/3 loaded quay.io/example/tool:1\n');
  });

  it('clears its live lines away at the end', async () => {
    const { host, stream, passes, takeWritten } = scene({ isTTY: true, columns: 100 });
    {
      using display = showProgress(host, stream);
      display.onEvent(planned);
      await passes(200);
      takeWritten();
    }
    assert.ok(takeWritten().endsWith('\u001b[1A\u001b[J'));
  });

  for (const [columns, width] of [
    [40, 39],
    [0, 79],
  ] as const) {
    it(`of ${columns} columns gets lines of at most ${width}`, async () => {
      const { host, stream, passes, takeWritten } = scene({ isTTY: true, columns });
      using display = showProgress(host, stream);
      display.onEvent({ ...begun, reference: 'x'.repeat(200) });
      await passes(200);
      const [line = ''] = takeWritten().split('\n');
      assert.deepEqual([line.length, line.at(-1)], [width, '…']);
    });
  }
});

describe('a line of totals on a terminal', () => {
  for (const [columns, width] of [
    [undefined, 77],
    [0, 77],
    [40, 37],
  ] as const)
    it(`of ${columns} columns has at most ${width}, so that ^C behind it does not wrap it`, async () => {
      const { host, stream, passes, takeWritten } = scene({ isTTY: true, ...(columns !== undefined && { columns }) });
      {
        using _display = showTotals(host, stream, () => 'x'.repeat(200));
        await passes(200);
        assert.equal(takeWritten(), `${'x'.repeat(width - 1)}…`);
      }
      assert.equal(takeWritten(), '\r\u001b[K');
      using bytes = showBytes(host, stream);
      bytes.onProgress({ phase: 'y'.repeat(200), bytes: 0, totalBytes: 1 });
      await passes(200);
      bytes.onProgress({ phase: 'y'.repeat(200), bytes: 1, totalBytes: 1 });
      assert.equal(takeWritten(), `\r\u001b[K${'y'.repeat(width - 1)}…`);
    });
});

describe('progress before the plan', () => {
  it('counts no images', async () => {
    const { host, stream, passes, takeWritten } = scene({ isTTY: true });
    using display = showProgress(host, stream);
    display.onEvent({ kind: 'phase', text: 'reading the bundle' });
    takeWritten();
    await passes(200);
    assert.equal(takeWritten(), 'reading the bundle\n');
  });

  it('has no more lines than the console', async () => {
    const { host, stream, passes, takeWritten } = scene({ isTTY: true });
    using display = showProgress(host, stream);
    for (let index = 0; index < 40; index++) display.onEvent({ ...begun, reference: `image-${index}` });
    await passes(200);
    const lines = takeWritten().split('\n');
    assert.deepEqual([lines.length, lines.at(-2)], [24, 'starting']);
  });
});

describe('progress under systemd', () => {
  it('is one STATUS in two seconds at most, and the newest', () => {
    const { host, stream, started, jumps } = scene({ env: { NOTIFY_SOCKET: '/run/systemd/notify' } });
    using display = showProgress(host, stream);
    display.onEvent({ kind: 'phase', text: 'reading the bundle' });
    for (let ms = 0; ms < 1999; ms += 100) display.onEvent({ kind: 'phase', text: `at ${ms}` });
    jumps(1999);
    display.onEvent(planned);
    jumps(1);
    display.onEvent({ kind: 'phase', text: 'loading images' });
    assert.deepEqual(started, [
      ['systemd-notify', '--status=reading the bundle'],
      ['systemd-notify', '--status=loading images: 1/3 images, 0 B of 4.0 KiB, 0 B/s'],
    ]);
  });

  it('starts nothing where systemd does not listen', () => {
    const { host, stream, started } = scene();
    using display = showProgress(host, stream);
    display.onEvent(planned);
    assert.deepEqual(started, []);
  });
});
