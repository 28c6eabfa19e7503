import { execOnLinux } from '../../agent/host/exec.ts';

/** When a unit was started in the last boot of a journal, by the machine's monotonic clock. Undefined for what did not come. */
export interface UnitTimes {
  readonly startingMs?: number;
  readonly startedMs?: number;
  readonly failedMs?: number;
}

/** Source: systemd, sd-messages.h: SD_MESSAGE_UNIT_STARTING, …_STARTED, …_FAILED. */
const MESSAGE_IDS = {
  startingMs: '7d4958e842da4a758f6c1cdc7b36dcc5',
  startedMs: '39f53479d3a045ac8e11786248231fbf',
  failedMs: 'be02cf6855d2428ba40df7e9d022f03d',
} as const;

/** What podman says of every container, which tells nobody anything. */
const CHATTER = / (?:podman\[\d+\]: \d{4}-.* (?:container|image|system) |conmon\[\d+\]: .*memory\.events)/;

/** The last lines of a machine's journal without podman's chatter, read from outside, whether it runs or not. */
export async function lastLines(journal: string, count: number): Promise<readonly string[]> {
  const { stdout } = await journalctl(journal, ['-n', String(count * 4), '-o', 'short-monotonic']);
  return stdout
    .split('\n')
    .filter((line) => line !== '' && !CHATTER.test(line))
    .slice(-count);
}

/** What a unit's processes said in the last boot, line by line. */
export async function messagesOf(journal: string, unit: string): Promise<readonly string[]> {
  const { stdout } = await journalctl(journal, ['-b', '-o', 'cat', `_SYSTEMD_UNIT=${unit}`]);
  return stdout.split('\n').filter(Boolean);
}

/** The first start of each unit in the last boot. */
export async function unitTimes(journal: string): Promise<ReadonlyMap<string, UnitTimes>> {
  const ids = Object.values(MESSAGE_IDS).map((id) => `MESSAGE_ID=${id}`);
  const { stdout } = await journalctl(journal, ['-b', '-o', 'json', ...ids]);
  const times = new Map<string, UnitTimes>();
  for (const line of stdout.split('\n').filter(Boolean)) {
    const entry: Readonly<Record<string, string>> = JSON.parse(line);
    const unit = entry.UNIT ?? '';
    const atMs = Number(entry.__MONOTONIC_TIMESTAMP) / 1000;
    for (const [key, id] of Object.entries(MESSAGE_IDS)) {
      if (entry.MESSAGE_ID === id) times.set(unit, { [key]: atMs, ...times.get(unit) });
    }
  }
  return times;
}

/** The wall clock less the monotonic clock at the end of a journal, in milliseconds. Source: systemd.journal-fields(7). */
export async function clockOffsetMs(journal: string): Promise<number> {
  const { stdout } = await journalctl(journal, ['-b', '-n', '1', '-o', 'json']);
  const entry: Readonly<Record<string, string>> = JSON.parse(stdout);
  return (Number(entry.__REALTIME_TIMESTAMP) - Number(entry.__MONOTONIC_TIMESTAMP)) / 1000;
}

async function journalctl(journal: string, args: readonly string[]) {
  return await execOnLinux('journalctl', ['-D', journal, '--no-pager', '--quiet', ...args]);
}
