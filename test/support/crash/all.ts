import { buildScenarios } from './build.ts';
import { checkScenarios } from './check-store.ts';
import { extractScenarios } from './extract.ts';
import { fetchScenarios } from './fetch.ts';
import { partitionScenarios } from './partition.ts';
import type { CrashScenario } from './points.ts';
import { pullScenarios } from './pull.ts';
import { releaseScenarios } from './release.ts';
import { runScenarios } from './run.ts';

/** Every command that is killed by tests. */
export const crashScenarios: readonly CrashScenario[] = [
  ...extractScenarios,
  ...runScenarios,
  ...checkScenarios,
  ...releaseScenarios,
  ...pullScenarios,
  ...buildScenarios,
  ...partitionScenarios,
  ...fetchScenarios,
];
