import { OWNED_MARK } from '../system-files/file.ts';
import { type MirrorDialect, type MirrorRequest, type PlannedEntry, planMirrors, withoutConflicts } from './registries-plan.ts';
import { entryLines } from './registries-toml.ts';
import { DROP_IN_NAME, REGISTRIES_DIRECTORY, type RegistriesView } from './registries-view.ts';

export type { MirrorDialect, MirrorRequest } from './registries-plan.ts';

/** The file of ours among the drop-ins of registries.conf, on the node. */
export const DROP_IN_PATH = `${REGISTRIES_DIRECTORY}/${DROP_IN_NAME}`;

const RENDERED =
  '# Rendered by: prestage-agent ignition clients. Where the node has no prestage-agent, remove this file and certs.d/*/prestage-ca.crt by hand.';

/** The drop-in for an ignition, which points to other nodes. Pure. */
export function ofIgnition(dropIn: string): string {
  return dropIn.replace('\n', `\n${RENDERED}\n`);
}

export function isOfIgnition(dropIn: string): boolean {
  return dropIn.split('\n', 2)[1] === RENDERED;
}

/**
 * Renders the drop-in that makes engines ask our mirrors before the sources, in the format of containers-registries.conf.d(5). Existing mirrors follow
 * ours in their order, the source comes last, and all other settings for an image are kept. Pure: the same input gives the same bytes.
 */
export function renderDropIn(
  view: RegistriesView,
  request: MirrorRequest,
  dialect: MirrorDialect,
): { readonly text: string; readonly notices: readonly string[] } {
  const { planned, notices } = withoutConflicts(planMirrors(view, request, dialect, DROP_IN_PATH), []);
  const text = [OWNED_MARK, ...planned.flatMap((item) => ['', ...commentOf(item), ...entryLines(item.entry)])].join('\n');
  return { text: `${text}\n`, notices: [...notices, ...planned.flatMap(laterNotice)] };
}

function commentOf({ base }: PlannedEntry): readonly string[] {
  return base === undefined ? [] : [`# Includes the settings of ${base.file} for ${base.prefix}.`];
}

/** An entry of the same prefix in a file that is read after ours replaces ours completely. */
function laterNotice({ entry, base }: PlannedEntry): readonly string[] {
  if (base === undefined || base.prefix !== entry.prefix || base.file <= DROP_IN_PATH) return [];
  return [
    `${base.file} is read after ${DROP_IN_PATH} and overrides it for ${entry.prefix}: rename it so that it is read before; otherwise engines do not ask our mirrors`,
  ];
}
