import * as v from 'valibot';
import { PrestageError } from '../model/errors.ts';
import { isSettingKey, SETTING_KEYS, type SettingKey } from '../model/setting-values.ts';
import { IGNITION_FORMS } from '../units/forms.ts';
import type { CommandSpec } from './command-spec.ts';
import { completionScript, SHELLS } from './completion.ts';
import { hostFor, type SettingFlags, type Terminal } from './context.ts';
import { runIgnition } from './ignition-command.ts';
import { type Answer, OUTPUT_FORMS } from './output.ts';
import { runCommand } from './run-command.ts';
import { settingFlags } from './setting-flags.ts';
import { statusCommand } from './status-command.ts';

const dryRunFlag = { usage: '--dry-run', help: 'print the plan and write nothing' };

/** All commands, in the order of help. */
export const commands: readonly CommandSpec[] = [
  {
    name: 'run',
    description:
      'Load the images of a stage from the data partition into containers-storage. What is there stays; what is missing or damaged is loaded.',
    flags: [...settingFlags(SETTING_KEYS), dryRunFlag],
    forms: ['text', 'json'],
    examples: [
      'prestage-agent run --stage discovery',
      'prestage-agent run --stage installed --dry-run',
      'prestage-agent run --stage installed --bundle /mnt/data --parallel 4',
    ],
    act: async (terminal, options) => await runCommand(terminal, { ...settingsOf(options), dryRun: options.dryRun === true }),
  },
  {
    name: 'status',
    description: 'Show how the last run ended or how far it is, image by image, with reasons and what to do next. Reads only.',
    flags: [...settingFlags(['root']), { usage: '--watch', help: 'show it again every second until the run has ended' }],
    forms: OUTPUT_FORMS,
    examples: ['prestage-agent status', 'prestage-agent status --watch', 'prestage-agent status --output json'],
    act: async (terminal, options) => {
      const output = OUTPUT_FORMS.find((form) => form === options.output) ?? 'text';
      return await statusCommand(terminal, { ...settingsOf(options), watch: options.watch === true, output });
    },
  },
  {
    name: 'ignition',
    description: 'Print the ignition override that installs launcher and unit of a stage, alone or merged into an existing one.',
    arguments: [{ usage: '<stage>', help: 'discovery or installed' }],
    flags: [
      {
        usage: '--spec <version>',
        help: '3.1.0 or 3.2.0 (default: 3.1.0 for discovery, 3.2.0 for installed; with --merge, that of the file)',
      },
      { usage: '--label <name>', help: 'GPT label of the data partition (default: data)' },
      { usage: '--agent-sha256 <hex>', help: 'sha256 of the executable on the partition: the node starts no other' },
      { usage: '--policy <policy>', help: 'on failure: open lets the boot go on, closed fails the unit and what needs it (default: open)' },
      { usage: '--merge <file>', help: 'an existing override; stale pieces of prestage-agent in it are replaced' },
      { usage: '--as <form>', help: `${IGNITION_FORMS.join(', ')} (default: ign)` },
    ],
    examples: [
      'prestage-agent ignition discovery --agent-sha256 $(sha256sum < prestage-agent | cut -c1-64)',
      'prestage-agent ignition installed --merge mine.ign --as patch',
    ],
    act: ignitionAnswer,
  },
  {
    name: 'completion',
    description: 'Print a completion script for a shell.',
    arguments: [{ usage: '<shell>', help: SHELLS.join(', ') }],
    flags: [],
    examples: ['source <(prestage-agent completion bash)'],
    act: async (_terminal, _options, args) => {
      const text = completionScript(args[0] ?? '', commands);
      return { data: text, text, exitCode: 0 };
    },
  },
];

const ignitionSchema = v.object({
  stage: v.picklist(['discovery', 'installed']),
  spec: v.exactOptional(v.picklist(['3.1.0', '3.2.0'])),
  label: v.exactOptional(v.string()),
  agentSha256: v.exactOptional(v.string()),
  policy: v.exactOptional(v.picklist(['open', 'closed'])),
  merge: v.exactOptional(v.string()),
  as: v.exactOptional(v.picklist(IGNITION_FORMS)),
});

async function ignitionAnswer(terminal: Terminal, options: Readonly<Record<string, unknown>>, args: readonly string[]): Promise<Answer> {
  const parsed = v.safeParse(ignitionSchema, { ...options, stage: args[0] });
  if (!parsed.success) {
    const faults = parsed.issues.map((issue) => `${v.getDotPath(issue)}: ${issue.message}`);
    throw new PrestageError('ERR_USAGE', `ignition cannot be rendered: ${faults.join('; ')}`, 'Look at: prestage-agent ignition --help');
  }
  const host = hostFor(terminal, {});
  const { text, warnings } = await runIgnition(parsed.output, host);
  for (const warning of warnings) host.log('warning', warning);
  return { data: text, text, exitCode: 0 };
}

/** The settings among the options: commander(1) gives them in camel case. */
function settingsOf(options: Readonly<Record<string, unknown>>): SettingFlags {
  const entries = Object.entries(options).flatMap(([name, value]): [SettingKey, string][] => {
    const key = name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    return isSettingKey(key) && typeof value === 'string' ? [[key, value]] : [];
  });
  return Object.fromEntries(entries);
}
