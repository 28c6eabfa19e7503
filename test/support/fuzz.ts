const env = process.env;

/**
 * How long a law is searched for a counterexample: some seconds here; PRESTAGE_FUZZ_RUNS and PRESTAGE_FUZZ_MS (limit of each law) make a
 * search of it, such as 10 million runs or 10 minutes. fast-check prints the seed of what it finds; it is then kept in `examples`.
 */
export const FUZZ = {
  numRuns: Number(env.PRESTAGE_FUZZ_RUNS ?? 3000),
  interruptAfterTimeLimit: Number(env.PRESTAGE_FUZZ_MS ?? 20_000),
} as const;
