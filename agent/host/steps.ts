/**
 * Every step of the agent that changes something outside its own memory. The crash test kills the agent before and after each and expects
 * the next run to come to the same end.
 */
export const changingSteps = [
  'take-lock',
  'record-start',
  'reclaim-mount',
  'reclaim-scratch',
  'mount-partition',
  'record-survey',
  'make-scratch',
  'record-plan',
  'remove-damaged',
  'unpack-image',
  'load-image',
  'load-extra-name',
  'remove-image-scratch',
  'remove-scratch',
  'sync-storage',
  'unmount-partition',
  'record-end',
  'start-tree',
  'fill-tree',
  'sync-tree',
  'record-tree',
  'back-up-system-file',
  'record-setup',
  'write-system-file',
  'remove-system-file',
  'restore-system-file',
  'remove-setup-record',
  'reload-systemd',
  'reload-crio',
  'make-empty-store',
  'bind-data',
  'mount-ram',
  'copy-store',
  'open-verity',
  'record-store',
  'mount-store',
  'remove-old-copies',
  'unmount-store',
  'close-verity',
  'unmount-data',
  'unmount-ram',
  'forget-store',
  'remove-store-copies',
  'remove-mirror',
  'remove-empty-store',
  'heal-container',
  'heal-image',
  'heal-layer',
  'keep-image',
  'remove-copies',
  'record-release',
  'copy-mirror',
  'write-registry',
  'start-registry',
  'stop-registry',
  'remove-registry',
  'start-check',
  'reload-crio',
  'load-registry-image',
  'keep-bundle',
  'forget-bundle',
] as const;

export type StepName = (typeof changingSteps)[number];

/** Runs one changing step under its name. */
export type Step = <T>(name: StepName, action: () => Promise<T>) => Promise<T>;

/** Steps as they run on a node. */
export const plainStep: Step = async (_name, action) => await action();

/**
 * Steps that end the process with SIGKILL at one point, for the crash test.
 * @param point `before:NAME:N` or `after:NAME:N`: the Nth time (from 1) that the step NAME is reached or left
 */
export function crashingStep(point: string, die: () => void): Step {
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
