import { fetchScenarios } from '../../../support/crash/fetch.ts';
import { testCrashes } from '../../../support/crash/points.ts';

for (const scenario of fetchScenarios) testCrashes(scenario);
