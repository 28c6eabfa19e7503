import { own, type TextStream } from './text-stream.ts';

/** Severities of syslog(3) that the agent uses; systemd reads them as `<n>` prefixes of a line (sd-daemon(3)). */
export type Severity = 'error' | 'warning' | 'notice' | 'info' | 'debug';

/** Messages for people and for the journal. Data is not logged: the output module writes it to standard output. */
export type Log = (severity: Severity, message: string) => void;

const SYSLOG_LEVEL: Readonly<Record<Severity, number>> = { error: 3, warning: 4, notice: 5, info: 6, debug: 7 };

/**
 * Writes lines to a stream: with `<n>` prefixes under systemd (JOURNAL_STREAM is set), otherwise plain. Debug lines only on request. If it is
 * quiet, it leaves out lines that only inform.
 */
export function streamLog(
  stream: Pick<TextStream, 'write'>,
  options: { readonly journal: boolean; readonly debug?: boolean; readonly isQuiet?: boolean },
): Log {
  return (severity, message) => {
    if (severity === 'debug' && options.debug !== true) return;
    if (severity === 'info' && options.isQuiet === true) return;
    for (const line of message.split('\n')) {
      stream.write(options.journal ? `${journalPrefix(severity)}${line}\n` : `${severity === 'info' ? '' : `${severity}: `}${line}\n`);
    }
  };
}

/** The prefix of a line for the journal. It sets the priority of one line only, so each line of a message needs one. */
export function journalPrefix(severity: Severity): string {
  return own(`<${SYSLOG_LEVEL[severity]}>`);
}
