import * as v from 'valibot';
import { PrestageError } from '../model/errors.ts';
import { IGNITION_SPECS } from '../units/config.ts';
import { IGNITION_FORMS } from '../units/forms.ts';
import { runIgnition } from '../units/ignition.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor, type Terminal } from './context.ts';
import type { Answer } from './output.ts';

/** `prestage-agent ignition`: prints the override of a stage. */
export const ignitionCommand: CommandSpec = {
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
    { usage: '--bundle-sha256 <hex>', help: 'sha256 of the bundle’s prestage.json: the node loads from no other' },
    { usage: '--bundle <dir>', help: 'take both hashes from this bundle' },
    { usage: '--policy <policy>', help: 'on failure: open lets the boot go on, closed fails the unit and what needs it (default: open)' },
    { usage: '--merge <file>', help: 'an existing override; stale pieces of prestage-agent in it are replaced' },
    { usage: '--as <form>', help: `${IGNITION_FORMS.join(', ')} (default: ign)` },
  ],
  examples: [
    'prestage-agent ignition discovery --agent-sha256 $(sha256sum < prestage-agent | cut -c1-64)',
    'prestage-agent ignition discovery --bundle ./bundle --as patch',
    'prestage-agent ignition installed --merge mine.ign --as patch',
  ],
  act: actIgnition,
};

const ignitionSchema = v.object({
  stage: v.picklist(['discovery', 'installed']),
  spec: v.exactOptional(v.picklist(IGNITION_SPECS)),
  label: v.exactOptional(v.string()),
  agentSha256: v.exactOptional(v.string()),
  bundleSha256: v.exactOptional(v.string()),
  bundle: v.exactOptional(v.string()),
  policy: v.exactOptional(v.picklist(['open', 'closed'])),
  merge: v.exactOptional(v.string()),
  as: v.exactOptional(v.picklist(IGNITION_FORMS)),
});

async function actIgnition(terminal: Terminal, options: Readonly<Record<string, unknown>>, args: readonly string[]): Promise<Answer> {
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
