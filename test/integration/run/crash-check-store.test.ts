import { checkScenarios } from '../../support/crash/check-store.ts';
import { testCrashes } from '../../support/crash/points.ts';

for (const scenario of checkScenarios) testCrashes(scenario);
