import { buildScenarios } from '../../../support/crash/build.ts';
import { testCrashes } from '../../../support/crash/points.ts';

for (const scenario of buildScenarios) testCrashes(scenario);
