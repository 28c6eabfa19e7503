import { partitionScenarios } from '../../support/crash/partition.ts';
import { testCrashes } from '../../support/crash/points.ts';

for (const scenario of partitionScenarios) testCrashes(scenario);
