import { testCrashes } from '../../support/crash/points.ts';
import { releaseScenarios } from '../../support/crash/release.ts';

for (const scenario of releaseScenarios) testCrashes(scenario);
