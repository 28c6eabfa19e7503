import type { IgnitionConfig } from './config.ts';

/** A named piece of a config: a file, directory or link by its path, a unit by its name. */
export interface Piece {
  /** Path or unit name, the key by which Ignition and the Assisted Installer merge. */
  readonly name: string;
  /** JSON path of the piece, such as `$.systemd.units[0]`. */
  readonly place: string;
}

/** Names of others with their owners. An override that uses such a name replaces that piece. Sources: assisted-service's discovery ignition; the templates of the Machine Config Operator. */
const FOREIGN: Readonly<Record<string, string>> = {
  'agent.service': 'the assisted agent',
  'selinux.service': 'the assisted agent',
  '/usr/local/bin/agent-fix-bz1964591': 'the assisted agent',
  '/usr/local/bin/agent-pull-image': 'the assisted agent',
  '/etc/containers/registries.conf': 'the Assisted Installer and the Machine Config Operator',
  '/etc/containers/policy.json': 'the Assisted Installer and the Machine Config Operator',
  '/etc/containers/storage.conf': 'the Machine Config Operator',
  '/etc/containers/registries.conf.d/01-image-searchRegistries.conf': 'the Machine Config Operator',
  '/etc/crio/crio.conf.d/00-default': 'the Machine Config Operator',
  '/etc/crio/crio.conf.d/50-pinned-images': 'the Machine Config Operator',
  '/etc/motd': 'the Assisted Installer',
};

const OUR_NAMES =
  /^(?:\/usr\/local\/bin\/prestage-[^/]+|\/etc\/prestage-agent(?:\/.+)?|prestage-agent[^/]*|\/etc\/containers\/registries\.conf\.d\/50-prestage\.conf|\/etc\/containers\/registries\.d\/50-prestage\.yaml|\/etc\/containers\/certs\.d\/[^/]+\/prestage-[^/]+)$/;
/** Is among our files, but belongs to the author of the override. */
const AUTHORS_SETTINGS = '/etc/prestage-agent/config.yaml';

/** Whether the agent's rendering writes pieces of this name, now or in an earlier version. */
export function isOurs(name: string): boolean {
  return OUR_NAMES.test(name) && name !== AUTHORS_SETTINGS;
}

/** The other owner of a name; undefined if none is known. */
export function foreignOwner(name: string): string | undefined {
  return Object.hasOwn(FOREIGN, name) ? FOREIGN[name] : undefined;
}

/** All files, directories, links and units of a config. */
export function piecesOf(config: IgnitionConfig): readonly Piece[] {
  const { files = [], directories = [], links = [] } = config.storage ?? {};
  const at = (list: string, names: readonly string[]): readonly Piece[] =>
    names.map((name, index) => ({ name, place: `$.${list}[${index}]` }));
  return [
    ...at(
      'storage.directories',
      directories.map(({ path }) => path),
    ),
    ...at(
      'storage.files',
      files.map(({ path }) => path),
    ),
    ...at(
      'storage.links',
      links.map(({ path }) => path),
    ),
    ...at(
      'systemd.units',
      (config.systemd?.units ?? []).map(({ name }) => name),
    ),
  ];
}
