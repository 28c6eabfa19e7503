import { appendFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { IgnitionSpec } from '../../agent/units/config.ts';
import { discoveryBase } from './base.ts';
import type { Bundle } from './factory.ts';
import { applyIgnition } from './ignition.ts';
import { type MachineRoot, ramRoot } from './machine-root.ts';
import type { Trial } from './trial.ts';

export const DISCOVERY_UNIT = 'prestage-agent-discovery.service';

export interface DiscoveryOptions {
  readonly bundle: Bundle;
  readonly policy: 'open' | 'closed';
  readonly spec?: IgnitionSpec | undefined;
  /** Lines of /etc/prestage-agent/config.yaml. */
  readonly settings?: Readonly<Record<string, string>> | undefined;
  /** Size of /var. */
  readonly varMiB?: number | undefined;
  /** Seconds that the launcher waits for the partition; its own 300 where left out. */
  readonly waitSeconds?: number | undefined;
  /** Other files that the live ISO has, by path. */
  readonly files?: Readonly<Record<string, string | Buffer>> | undefined;
  /** Another root than that of machines without a kernel of their own. */
  readonly lower?: string | undefined;
}

/** Half of the memory of a node of 6 GiB: the live system's /var. */
const VAR_MIB = 3072;

/** A live system to which Ignition has applied a discovery config with our override merged into it. */
export async function discoveryRoot(trial: Pick<Trial, 'factory' | 'work'>, options: DiscoveryOptions): Promise<MachineRoot> {
  const { bundle, policy, settings = {}, spec = '3.1.0', varMiB = VAR_MIB, waitSeconds, files = {}, lower } = options;
  const base = await discoveryBase({ spec, settings, agentImage: bundle.set.images.agent.reference });
  const config = await trial.factory.ignition('discovery', { bundle, base, policy, work: trial.work });
  const root = await ramRoot(trial.work, varMiB, lower);
  try {
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(root.path, path)), { recursive: true });
      await writeFile(join(root.path, path), content);
    }
    await applyIgnition(config, root.path, trial.work);
    if (waitSeconds !== undefined) await appendFile(join(root.path, 'etc/prestage-agent/launcher.env'), `WAIT=${waitSeconds}\n`);
  } catch (error) {
    await root[Symbol.asyncDispose]();
    throw error;
  }
  return root;
}
