import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import * as v from 'valibot';
import type { ExecResult } from '../../agent/host/exec.ts';

/** The agent of QEMU in a guest, by which programs are run there. Source: QEMU, "QEMU Guest Agent Protocol Reference". */
export interface GuestAgent {
  /** Waits until it answers. Rejects with the signal's reason. */
  ready(signal: AbortSignal): Promise<void>;
  /** Runs a program in the guest. A non-zero exit is a result. Rejects with the signal's reason, and where the guest is gone. */
  run(argv: readonly string[], signal: AbortSignal): Promise<ExecResult>;
  close(): void;
}

/** A program of an emulated machine takes some tenths of a second at least; each question has a line in its journal. */
const POLL_MS = 250;
const PING_MS = 1000;

const startedSchema = v.object({ pid: v.number() });
/** What a program has said, without its last line feed, as programs of this machine are answered for. */
const base64 = v.pipe(
  v.optional(v.string(), ''),
  v.transform((text) =>
    Buffer.from(text, 'base64')
      .toString()
      .replace(/\r?\n$/, ''),
  ),
);
const statusSchema = v.object({
  exited: v.boolean(),
  exitcode: v.optional(v.number()),
  signal: v.optional(v.number()),
  'out-data': base64,
  'err-data': base64,
});
const answerSchema = v.union([v.object({ return: v.unknown() }), v.object({ error: v.object({ desc: v.string() }) })]);

/** @param path of the socket that QEMU listens on */
export async function connectGuest(path: string): Promise<GuestAgent> {
  const socket = createConnection(path);
  await once(socket, 'connect');
  const line = lineReader(socket);
  let last: Promise<unknown> = Promise.resolve();
  /** One question at a time: answers have no number. */
  const ask = async (question: object, signal: AbortSignal): Promise<unknown> => {
    const turn = last.then(async () => {
      socket.write(`${JSON.stringify(question)}\n`);
      return await line(signal);
    });
    last = turn.catch(() => undefined);
    const answer = v.parse(v.pipe(v.string(), v.parseJson(), answerSchema), await turn);
    if ('error' in answer) throw new Error(`the agent of the guest says: ${answer.error.desc}`);
    return answer.return;
  };
  return {
    ready: async (signal) => {
      // What is sent before the guest listens is lost, or answered late: the answer to the last question is waited for.
      for (let id = 1; ; id++) {
        const limit = AbortSignal.any([signal, AbortSignal.timeout(PING_MS)]);
        socket.write(`${JSON.stringify({ execute: 'guest-sync', arguments: { id } })}\n`);
        if (await isAnswered(line, id, limit)) return;
        signal.throwIfAborted();
      }
    },
    run: async ([path = '', ...arg], signal) => {
      const call = { execute: 'guest-exec', arguments: { path, arg, 'capture-output': true } };
      const { pid } = v.parse(startedSchema, await ask(call, signal));
      for (;;) {
        await sleep(POLL_MS, undefined, { signal });
        const status = v.parse(statusSchema, await ask({ execute: 'guest-exec-status', arguments: { pid } }, signal));
        if (!status.exited) continue;
        const exitCode = status.exitcode ?? 128 + (status.signal ?? 0);
        return { exitCode, stdout: status['out-data'], stderr: status['err-data'] };
      }
    },
    close: () => void socket.destroy(),
  };
}

/** Whether the answer with a number comes before the signal fires; those before it are passed over. */
async function isAnswered(line: LineReader, id: number, signal: AbortSignal): Promise<boolean> {
  try {
    while (!v.is(v.pipe(v.string(), v.parseJson(), v.object({ return: v.literal(id) })), await line(signal)));
    return true;
  } catch {
    return false;
  }
}

type LineReader = (signal: AbortSignal) => Promise<string>;

/** Gives the lines of a socket one by one. */
function lineReader(socket: Socket): LineReader {
  const lines: string[] = [];
  const reader = createInterface(socket);
  reader.on('line', (line) => lines.push(line));
  // The end of QEMU is told by its process; the reader tells the error of its socket as its own.
  for (const emitter of [socket, reader]) emitter.on('error', () => undefined);
  return async (signal) => {
    while (lines.length === 0) await once(reader, 'line', { signal });
    return lines.shift() ?? '';
  };
}
