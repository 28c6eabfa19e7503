/** Runs work that is added one by one, several pieces at a time. */
export interface Queue {
  /**
   * Accepts work once there is room for it.
   * @throws the error of earlier work
   */
  push(work: () => Promise<void>): Promise<void>;
  /** Waits for all work; throws the first error. */
  drained(): Promise<void>;
  /** Waits for all work; never throws. */
  settled(): Promise<void>;
}

export function createQueue(parallel: number): Queue {
  const running = new Set<Promise<void>>();
  let failure: { readonly error: unknown } | undefined;
  const throwFailure = (): void => {
    if (failure !== undefined) throw failure.error;
  };
  const settled = async (): Promise<void> => {
    await Promise.all(running);
  };
  return {
    settled,
    push: async (work) => {
      while (running.size >= parallel && failure === undefined) await Promise.race(running);
      throwFailure();
      const job: Promise<void> = work()
        .catch((error: unknown) => {
          failure ??= { error };
        })
        .finally(() => running.delete(job));
      running.add(job);
    },
    drained: async () => {
      await settled();
      throwFailure();
    },
  };
}
