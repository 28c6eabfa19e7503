import { version } from '../assets.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor } from './context.ts';
import { OUTPUT_FORMS } from './output.ts';

/** What `--version` prints: the agent and the Node that carries it. */
export function versionText(): string {
  return `prestage-agent ${version} (Node ${process.versions.node}, ${process.arch})`;
}

/** `prestage-agent version`: the same as `--version`, also as data. */
export const versionCommand: CommandSpec = {
  name: 'version',
  summary: 'Print the version',
  description: 'Print the version of the agent, the Node that it contains, and the architecture.',
  flags: [],
  forms: OUTPUT_FORMS,
  examples: ['prestage-agent version --output json'],
  answer: async (terminal) => ({
    data: {
      apiVersion: 'prestage-agent/v1',
      kind: 'Version',
      version,
      node: process.versions.node,
      architecture: hostFor(terminal, {}).architecture,
    },
    text: versionText(),
    exitCode: 0,
  }),
};
