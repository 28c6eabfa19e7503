import { buildCommand } from './build-command.ts';
import { certificatesCommand } from './certificates-command.ts';
import { checkStoreCommand } from './check-store-command.ts';
import type { CommandSpec } from './command-spec.ts';
import { completionScript, SHELLS } from './completion.ts';
import { explainCommand } from './explain-command.ts';
import { fetchCommand } from './fetch-command.ts';
import { ignitionCommand } from './ignition-command.ts';
import { imagesCommand } from './images-command.ts';
import { inspectCommand } from './inspect-command.ts';
import { manifestsCommand } from './manifests-command.ts';
import { partitionCommand } from './partition-command.ts';
import { pullCommand } from './pull-command.ts';
import { releaseCommand } from './release-command.ts';
import { reportCommand } from './report-command.ts';
import { runCommand } from './run-command.ts';
import { statusCommand } from './status-command.ts';
import { verifyCommand } from './verify-command.ts';
import { versionCommand } from './version.ts';

const completionCommand: CommandSpec = {
  name: 'completion',
  summary: 'Print a completion script for a shell',
  description: 'Print a completion script for a shell.',
  arguments: [{ usage: '<shell>', help: SHELLS.join(', ') }],
  flags: [],
  examples: ['source <(prestage-agent completion bash)'],
  answer: async (_terminal, _options, args) => {
    const text = completionScript(args[0] ?? '', commands);
    return { data: text, text, exitCode: 0 };
  },
};

/** All commands, in the order of help. */
export const commands: readonly CommandSpec[] = [
  runCommand,
  statusCommand,
  reportCommand,
  releaseCommand,
  checkStoreCommand,
  ignitionCommand,
  manifestsCommand,
  certificatesCommand,
  imagesCommand,
  pullCommand,
  buildCommand,
  partitionCommand,
  fetchCommand,
  verifyCommand,
  inspectCommand,
  explainCommand,
  versionCommand,
  completionCommand,
];
