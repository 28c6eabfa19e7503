/** When the agent runs: on the discovery ISO (everything in RAM) or on the written disk. */
export type Stage = 'discovery' | 'installed';

export const STAGES: readonly Stage[] = ['discovery', 'installed'];
