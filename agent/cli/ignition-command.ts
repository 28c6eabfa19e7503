import { IGNITION_FORMS } from '../units/forms.ts';
import { runIgnition } from '../units/ignition.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor, type Terminal } from './context.ts';
import { ignitionOptions } from './ignition-options.ts';
import type { Answer } from './output.ts';

/** `prestage-agent ignition`: prints the override of a stage, or of the nodes that pull from others. */
export const ignitionCommand: CommandSpec = {
  name: 'ignition',
  description:
    'Print the ignition override that installs launcher and unit of a stage, or the mirrors of nodes that pull from others; alone or merged into an existing one.',
  arguments: [
    { usage: '<stage>', help: 'discovery or installed; clients: nodes without a data partition that pull from those which serve' },
  ],
  flags: [
    {
      usage: '--spec <version>',
      help: '3.1.0 or 3.2.0 (default: 3.1.0 for discovery, 3.2.0 for installed; with --merge, that of the file)',
    },
    { usage: '--label <name>', help: 'GPT label of the data partition (default: data)' },
    { usage: '--agent-sha256 <hex>', help: 'sha256 of the executable on the partition: the node starts no other' },
    { usage: '--bundle-sha256 <hex>', help: 'sha256 of the bundle’s prestage.json: the node loads from no other' },
    { usage: '--bundle <dir>', help: 'take both hashes from this bundle; clients: the bundle whose images the servers have' },
    { usage: '--policy <policy>', help: 'on failure: open lets the boot go on, closed fails the unit and what needs it (default: open)' },
    { usage: '--delivery <way>', help: 'how images reach the engine: auto, extract, registry or mount (default: auto)' },
    { usage: '--trust <kind>', help: 'what makes a store image trusted: auto, verity, hash or background (default: auto)' },
    { usage: '--placement <place>', help: 'where a store image lies while it is mounted: auto, ram, partition or disk (default: auto)' },
    {
      usage: '--memory-reserve <MiB>',
      help: 'memory that a store image in memory must leave free (default: auto, an eighth of all, 256 to 2048)',
    },
    { usage: '--registry-image <reference>', help: 'image that serves, where the bundle names none' },
    { usage: '--serve <whom>', help: 'installed: cluster serves the other nodes, by the delivery registry (default: node)' },
    { usage: '--address <address>', help: 'with --serve cluster: IPv4 address or host name by which they reach the node' },
    { usage: '--port <n>', help: 'with --serve cluster: port of the registry (default: 305)' },
    { usage: '--certificate <file>', help: 'with --serve cluster: certificate of the address, as prestage-agent certificates makes it' },
    { usage: '--key <file>', help: 'with --serve cluster: its private key, which the override then holds' },
    { usage: '--ca <file>', help: 'CA of the servers (default with --serve cluster: ca.crt beside the certificate)' },
    { usage: '--mirror <host:port...>', help: 'clients: a node that serves; several, in the order in which they are asked' },
    { usage: '--stage <stage>', help: 'clients: whose images they pull, discovery or installed (default: installed)' },
    { usage: '--registries <file>', help: 'clients: registries.conf as the nodes have it, whose mirrors stay in use' },
    { usage: '--merge <file>', help: 'an existing override; stale pieces of prestage-agent in it are replaced' },
    { usage: '--as <form>', help: `${IGNITION_FORMS.join(', ')} (default: ign)` },
  ],
  examples: [
    'prestage-agent ignition discovery --agent-sha256 $(sha256sum < prestage-agent | cut -c1-64)',
    'prestage-agent ignition discovery --bundle ./bundle --as patch',
    'prestage-agent ignition installed --merge mine.ign --as patch',
    'prestage-agent ignition installed --bundle ./bundle --serve cluster --address 192.0.2.10 --certificate tls/192.0.2.10.crt --key tls/192.0.2.10.key',
    'prestage-agent ignition clients --bundle ./bundle --ca tls/ca.crt --mirror 192.0.2.10:305 --mirror 192.0.2.11:305',
  ],
  act: actIgnition,
};

async function actIgnition(terminal: Terminal, options: Readonly<Record<string, unknown>>, args: readonly string[]): Promise<Answer> {
  const wanted = ignitionOptions(args[0], options);
  const host = hostFor(terminal, {});
  const { text, warnings } = await runIgnition(wanted, host);
  for (const warning of warnings) host.log('warning', warning);
  return { data: text, text, exitCode: 0 };
}
