import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parse } from 'yaml';
import { render } from '../../../agent/cli/output.ts';
import type { Host } from '../../../agent/host/host.ts';
import { streamLog } from '../../../agent/host/log.ts';
import { createNotifier } from '../../../agent/host/notify.ts';
import { own, textStream } from '../../../agent/host/text-stream.ts';

/** Escape, a window title, 8-bit CSI, DEL, backspace, a lone return, a turned reading direction. */
const HOSTILE = '\u001b[2J\u001b]0;x\u0007\u009b1A\u007f\b\r\u202e\u2066';
const SEEN = '\\u001b[2J\\u001b]0;x\\u0007\\u009b1A\\u007f\\u0008\\u000d\\u202e\\u2066';
const anyText = fc.string({
  unit: fc.oneof(fc.constantFrom(...Array.from(HOSTILE), '\n', '\t', '<', '3', '>'), fc.string({ minLength: 1, maxLength: 1 })),
});

function written(act: (stream: ReturnType<typeof textStream>) => unknown, isJournal = false): string {
  let text = '';
  act(textStream({ write: (part) => (text += part) }, { isJournal }));
  return text;
}

test('control characters in a text are seen, not obeyed; newlines, tabs and the sequences of the agent stay', () => {
  assert.equal(
    written((stream) => stream.write(`${own('\u001b[32m')}a${own('\u001b[39m')}\tb ${HOSTILE}\n`)),
    `\u001b[32ma\u001b[39m\tb ${SEEN}\n`,
  );
});

test('law: of any text only newlines and tabs come out as control characters', () => {
  fc.assert(
    fc.property(anyText, (text) =>
      assert.doesNotMatch(
        written((stream) => stream.write(text)),
        /(?![\n\t])\p{Cc}|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u,
      ),
    ),
  );
});

test('law: JSON and YAML are the same documents after it', () => {
  fc.assert(
    fc.property(fc.dictionary(anyText, fc.oneof(anyText, fc.array(anyText))), (values) => {
      // A key that YAML or JavaScript reads as something else says nothing about control characters.
      const data = Object.fromEntries(Object.entries(values).map(([key, value]) => [`key ${key}`, value]));
      for (const form of ['json', 'yaml'] as const) {
        const text = written((stream) => stream.write(render({ data, text: '' }, form)));
        assert.deepEqual(form === 'json' ? JSON.parse(text) : parse(text), data);
        assert.doesNotMatch(text, /(?![\n\t])\p{Cc}|[\u202a-\u202e]/u);
      }
    }),
  );
});

test('each line of a message has the priority of the message in the journal, whatever the line begins with', () => {
  const text = written((stream) => streamLog(stream, { journal: true })('warning', `one\n<3>prestage-agent failed\r<2>${HOSTILE}`), true);
  assert.equal(text, `<4>one\n<4><3>prestage-agent failed\\u000d<2>${SEEN}\n`);
});

test('a line of an answer chooses no priority in the journal, and stays as it is elsewhere', () => {
  const answer = 'failed: it\n<3>broke\n<a>\n';
  assert.equal(
    written((stream) => stream.write(answer), true),
    'failed: it\n<6><3>broke\n<a>\n',
  );
  assert.equal(
    written((stream) => stream.write(answer)),
    answer,
  );
});

test('the status for systemd is one line, so no name in it is another message to systemd', () => {
  const started: (readonly string[])[] = [];
  const host: Host = {
    root: '/',
    env: { NOTIFY_SOCKET: '/run/notify' },
    architecture: 'amd64',
    cores: 1,
    log: () => undefined,
    clock: { now: () => new Date(0), monotonicMs: () => 0, sleep: async () => undefined },
    exec: async (file, args) => {
      started.push([file, ...args]);
      return { stdout: '', stderr: '', exitCode: 0 };
    },
  };
  createNotifier(host).status(`loading x\nMAINPID=1\t${HOSTILE}`);
  assert.deepEqual(started, [['systemd-notify', `--status=loading x\\nMAINPID=1\\t${SEEN}`]]);
});
