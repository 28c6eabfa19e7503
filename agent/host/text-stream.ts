import { randomUUID } from 'node:crypto';
import { fstatSync } from 'node:fs';
import { visible } from '../model/visible.ts';

/** A stream that people read: a terminal, the journal, a pipe. */
export interface TextStream {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  readonly rows?: number | undefined;
  write(text: string): unknown;
}

/** Marks the control sequences of the agent itself. It is different in each process, so foreign text cannot imitate it. */
const MARK = `own-${randomUUID()}-`;
const MARKED = new RegExp(`${MARK}([0-9a-f]*);`, 'g');
/** The start of a line that sets its own priority in the journal. Source: sd-daemon(3). */
const PRIORITY = /^(?=<[0-7]>)/gm;

/** A control sequence or journal prefix of the agent's own, for a text that goes to a `textStream`. */
export function own(sequence: string): string {
  return `${MARK}${Buffer.from(sequence).toString('hex')};`;
}

/**
 * The only way to write text to the outside. Control characters from foreign text (names, messages of programs, labels of disks) are made
 * visible; sequences marked by `own` are written unchanged.
 * @param options.isJournal foreign lines cannot set their priority: such a line gets the prefix `<6>`, the default priority
 */
export function textStream(stream: TextStream, options: { readonly isJournal: boolean }): TextStream {
  return {
    get isTTY() {
      return stream.isTTY;
    },
    get columns() {
      return stream.columns;
    },
    get rows() {
      return stream.rows;
    },
    write: (text) => {
      const seen = visible(text);
      const kept = options.isJournal ? seen.replace(PRIORITY, '<6>') : seen;
      return stream.write(kept.replace(MARKED, (_marked, hex: string) => Buffer.from(hex, 'hex').toString()));
    },
  };
}

/** Whether a file descriptor is the journal. Source: systemd.exec(5), JOURNAL_STREAM. */
export function isJournal(descriptor: number, env: Readonly<Record<string, string | undefined>>): boolean {
  if (env.JOURNAL_STREAM === undefined) return false;
  try {
    const { dev, ino } = fstatSync(descriptor);
    return env.JOURNAL_STREAM === `${dev}:${ino}`;
  } catch {
    return false;
  }
}
