import { IGNITION_FORMS } from '../units/forms.ts';
import { runIgnition } from '../units/ignition.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor, type Terminal } from './context.ts';
import { ignitionOptions } from './ignition-options.ts';
import type { Answer } from './output.ts';

/** `prestage-agent ignition`: prints the override for a stage, or for nodes that pull from other nodes. */
export const ignitionCommand: CommandSpec = {
  name: 'ignition',
  summary: 'Print the ignition override for a stage',
  description:
    'Print the ignition override that installs the launcher and unit of a stage, or the mirrors on nodes that pull from other nodes; alone, or merged into an existing override.',
  arguments: [
    { usage: '<stage>', help: 'discovery or installed; or clients: nodes without a data partition that pull from nodes that serve' },
  ],
  flags: [
    {
      usage: '--spec <version>',
      help: '3.1.0 or 3.2.0 (default: 3.1.0 for discovery, 3.2.0 for installed; with --merge, the version of the file)',
    },
    { usage: '--label <name>', help: 'GPT label of the data partition (default: data)' },
    { usage: '--agent-sha256 <hex>', help: 'sha256 of the executable on the partition; the node refuses any other' },
    { usage: '--bundle-sha256 <hex>', help: 'sha256 of the bundle’s prestage.json; the node refuses any other bundle' },
    { usage: '--bundle <dir>', help: 'take both hashes from this bundle; clients: the bundle that the servers serve' },
    {
      usage: '--policy <policy>',
      help: 'on failure: open lets the boot continue, closed fails the unit and units that require it (default: open)',
    },
    { usage: '--delivery <way>', help: 'how engines get the images: auto, extract, registry or mount (default: auto)' },
    { usage: '--trust <kind>', help: 'how a store image is checked: auto, verity, hash or background (default: auto)' },
    { usage: '--placement <place>', help: 'where a mounted store image is kept: auto, ram, partition or disk (default: auto)' },
    {
      usage: '--memory-reserve <MiB>',
      help: 'memory that a store image in memory must leave free (default: auto, an eighth of the memory, 256 to 2048)',
    },
    { usage: '--registry-image <reference>', help: 'image of the registry, if the bundle does not name one' },
    {
      usage: '--serve <whom>',
      help: 'installed: cluster serves the images to the other nodes, too, with delivery registry (default: node)',
    },
    { usage: '--address <address>', help: 'with --serve cluster: IPv4 address or host name that the other nodes use to reach this node' },
    { usage: '--port <n>', help: 'with --serve cluster: port of the registry (default: 305)' },
    { usage: '--certificate <file>', help: 'with --serve cluster: certificate for the address, as created by prestage-agent certificates' },
    { usage: '--key <file>', help: 'with --serve cluster: its private key; the override then contains it' },
    { usage: '--ca <file>', help: 'CA of the servers (default with --serve cluster: ca.crt next to the certificate)' },
    {
      usage: '--mirror <host:port...>',
      help: 'clients: a node that serves, by default at port 305; can be repeated, engines ask them in this order',
    },
    { usage: '--stage <stage>', help: 'clients: stage whose images they pull, discovery or installed (default: installed)' },
    { usage: '--registries <file>', help: 'clients: the registries.conf of the nodes; its mirrors remain in use' },
    { usage: '--merge <file>', help: 'an existing override to merge into; outdated prestage-agent entries in it are replaced' },
    { usage: '--as <form>', help: `${IGNITION_FORMS.join(', ')} (default: ign)` },
  ],
  examples: [
    'prestage-agent ignition discovery --agent-sha256 $(sha256sum < prestage-agent | cut -c1-64)',
    'prestage-agent ignition discovery --bundle ./bundle --as patch',
    'prestage-agent ignition installed --merge mine.ign --as patch',
    'prestage-agent ignition installed --bundle ./bundle --serve cluster --address 192.0.2.10 --certificate tls/192.0.2.10.crt --key tls/192.0.2.10.key',
    'prestage-agent ignition clients --bundle ./bundle --ca tls/ca.crt --mirror 192.0.2.10:305 --mirror 192.0.2.11:305',
  ],
  answer: answerIgnition,
};

async function answerIgnition(terminal: Terminal, options: Readonly<Record<string, unknown>>, args: readonly string[]): Promise<Answer> {
  const wanted = ignitionOptions(args[0], options);
  const host = hostFor(terminal, {});
  const { text, warnings } = await runIgnition(wanted, host);
  for (const warning of warnings) host.log('warning', warning);
  return { data: text, text, exitCode: 0 };
}
