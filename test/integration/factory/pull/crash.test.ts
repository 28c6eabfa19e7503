import { testCrashes } from '../../../support/crash/points.ts';
import { pullScenarios } from '../../../support/crash/pull.ts';

for (const scenario of pullScenarios) testCrashes(scenario);
