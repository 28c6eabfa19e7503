import { resolve } from 'node:path';
import { type Act, crashingAct, loggedAct, plainAct } from '../host/acts.ts';
import { readIfThere } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { linuxHost } from '../host/linux.ts';
import { streamLog } from '../host/log.ts';
import type { TextStream } from '../host/text-stream.ts';
import type { SettingKey } from '../model/setting-table.ts';
import { resolveSettings, type Settings } from '../model/settings.ts';

/** The streams and signals of a command: data goes to `out`, messages go to `err`. */
export interface Terminal {
  readonly out: TextStream;
  readonly err: TextStream;
  /** Answers of a person; if left out, there is nobody to ask. */
  readonly in?: (NodeJS.ReadableStream & { readonly isTTY?: boolean | undefined }) | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Fires at the first SIGTERM or SIGINT: finish soon. */
  readonly stop: AbortSignal;
  /** Fires at the second one, or if the command takes long after the first: end now. */
  readonly kill: AbortSignal;
  /** Show neither progress nor messages that only inform. */
  readonly isQuiet?: boolean;
}

export type SettingFlags = Readonly<Partial<Record<SettingKey, string>>>;

const CONFIG_FILE = '/etc/prestage-agent/config.yaml';

/** Whether messages go to the journal, which takes a priority in front of each line. */
export function writesToJournal(terminal: Pick<Terminal, 'env' | 'err'>): boolean {
  return terminal.env.JOURNAL_STREAM !== undefined && terminal.err.isTTY !== true;
}

/** The same terminal for a command that is to be quiet. Standard input is opened only when somebody is asked. */
export function quieted(terminal: Terminal): Terminal {
  const { out, err, env, stop, kill } = terminal;
  return {
    out,
    err,
    get in() {
      return terminal.in;
    },
    env,
    stop,
    kill,
    isQuiet: true,
  };
}

/** Where the progress of a command goes. */
export function progressStream(terminal: Pick<Terminal, 'err' | 'isQuiet'>): TextStream {
  return terminal.isQuiet === true ? { write: () => undefined } : terminal.err;
}

/** The machine as a command sees it; `root` comes from the flag or PRESTAGE_ROOT. */
export function hostFor(terminal: Terminal, flags: SettingFlags): Host {
  const root = resolve(flags.root ?? (terminal.env.PRESTAGE_ROOT || '/'));
  return linuxHost({
    root,
    env: terminal.env,
    log: streamLog(terminal.err, {
      journal: writesToJournal(terminal),
      debug: terminal.env.PRESTAGE_DEBUG !== undefined,
      isQuiet: terminal.isQuiet === true,
    }),
  });
}

/**
 * The steps of a command, logged for debugging. PRESTAGE_CRASH_AT is for the crash tests: the agent kills itself at one of its changing steps.
 */
export function actFor(terminal: Pick<Terminal, 'env'>, host: Pick<Host, 'log'>): Act {
  const point = terminal.env.PRESTAGE_CRASH_AT;
  const act = point === undefined ? plainAct : crashingAct(point, () => process.kill(process.pid, 'SIGKILL'));
  return loggedAct(act, host.log);
}

/**
 * The settings of file, environment and flags.
 * @throws PrestageError ERR_SETTINGS
 */
export async function settingsFor(host: Host, flags: SettingFlags): Promise<Settings> {
  const path = hostPath(host, CONFIG_FILE);
  const text = await readIfThere(path);
  return resolveSettings({ file: text === undefined ? undefined : { path, text }, env: host.env, flags });
}
