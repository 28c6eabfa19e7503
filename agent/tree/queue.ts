/** Runs work that is handed over one by one, several at a time. */
export interface Queue {
  /**
   * Takes work when there is room for it.
   * @throws what earlier work ended in
   */
  push(work: () => Promise<void>): Promise<void>;
  /** Waits for all of it; throws what the first that failed ended in. */
  drained(): Promise<void>;
  /** Waits for all of it, however it ends. */
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
