import type { Log } from './log.ts';

/**
 * Every step of the agent that changes something outside its own memory, grouped by the command or delivery that performs it; a name is in one
 * group, even if others perform it, too. The crash tests kill the agent before and after each step and expect that the same command then ends
 * with the same result.
 */
export const changingActs = {
  /** Every `run`, with any delivery. */
  run: ['take-lock', 'record-start', 'reclaim-mount', 'mount-partition', 'unmount-partition', 'record-end'],
  extract: [
    'reclaim-scratch',
    'record-survey',
    'record-plan',
    'make-scratch',
    'remove-damaged',
    'unpack-image',
    'load-image',
    'load-extra-name',
    'remove-image-scratch',
    'remove-scratch',
    'sync-storage',
  ],
  mount: [
    'make-empty-store',
    'bind-data',
    'mount-ram',
    'copy-store',
    'open-verity',
    'record-store',
    'mount-store',
    'remove-old-copies',
    'copy-mirror',
    'start-check',
    'keep-bundle',
    'forget-bundle',
    'unmount-store',
    'close-verity',
    'unmount-data',
    'unmount-ram',
    'forget-store',
  ],
  registry: [
    'start-tree',
    'fill-tree',
    'sync-tree',
    'record-tree',
    'load-registry-image',
    'write-registry',
    'start-registry',
    'stop-registry',
    'remove-registry',
  ],
  /** System files, and reloading the programs that read them. */
  engines: ['back-up-system-file', 'record-setup', 'write-system-file', 'reload-systemd', 'reload-crio'],
  heal: ['begin-check', 'end-check', 'record-check', 'drop-damaged-copy', 'heal-container', 'heal-image', 'heal-layer', 'record-damage'],
  release: [
    'remove-system-file',
    'restore-system-file',
    'leave-storage-conf',
    'remove-setup-record',
    'remove-store-copies',
    'remove-mirror',
    'remove-empty-store',
    'keep-image',
    'remove-copies',
    'record-release',
  ],
  pull: ['start-pull', 'place-blob', 'place-manifest', 'write-index', 'write-archive', 'write-lists', 'end-pull', 'remove-staging'],
  fetch: [
    'mark-fetch',
    'begin-download',
    'place-download',
    'note-download',
    'sync-fetch',
    'remove-stale-file',
    'place-fetched-manifest',
    'remove-fetch-work',
    'unmark-fetch',
  ],
  partition: [
    'reclaim-targets',
    'attach-image',
    'forget-partition',
    'clear-place',
    'write-table',
    'announce-partition',
    'format-partition',
    'mount-target',
    'unmount-target',
    'mark-partition',
    'remove-replaced-file',
    'copy-bundle-file',
    'sync-target',
    'place-bundle-manifest',
    'remove-obsolete-file',
    'unmark-partition',
    'start-image',
    'stage-image-files',
    'fill-image',
    'place-image',
    'end-image',
  ],
  build: [
    'start-build',
    'import-archives',
    'mark-bundle',
    'record-build',
    'remove-old-part',
    'write-tree',
    'place-archives',
    'copy-agent',
    'compose-store',
    'normalise-store',
    'pack-store',
    'make-hash-tree',
    'prove-store',
    'remove-store-work',
    'write-readme',
    'remove-stale-payload',
    'sync-bundle',
    'seal-bundle',
    'record-seal',
    'remove-build-work',
  ],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export type ActGroup = keyof typeof changingActs;
export type ActName = (typeof changingActs)[ActGroup][number];

/** Runs one changing step under its name. */
export type Act = <T>(name: ActName, action: () => Promise<T>) => Promise<T>;

/** Steps as they run on a node. */
export const plainAct: Act = async (_name, action) => await action();

/** Steps that also log their names when they begin, for debugging: `step NAME`. */
export function loggedAct(act: Act, log: Log): Act {
  return async (name, action) => {
    log('debug', `step ${name}`);
    return await act(name, action);
  };
}

/**
 * Steps that kill the process with SIGKILL at one point, for the crash tests.
 * @param point `before:NAME:N` or `after:NAME:N`: before or after the Nth call (from 1) of the step NAME
 */
export function crashingAct(point: string, die: () => void): Act {
  const [when, wanted, nth] = point.split(':');
  let seen = 0;
  return async (name, action) => {
    const isHere = name === wanted && ++seen === Number(nth ?? 1);
    if (isHere && when === 'before') die();
    const result = await action();
    if (isHere && when === 'after') die();
    return result;
  };
}
