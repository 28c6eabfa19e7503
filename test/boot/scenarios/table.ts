import type { Scenario } from '../trial.ts';
import { chain } from './chain.ts';

/** All that machines are put through, in order. */
export const SCENARIOS: readonly Scenario[] = [
  chain({ name: 'extract oci', payload: 'oci', mirrors: false, discovery: { delivery: 'extract' }, installed: { delivery: 'extract' } }),
  chain({ name: 'extract archives, policy closed', payload: 'archives', mirrors: false, policy: 'closed', installedSpec: '3.1.0' }),
];
