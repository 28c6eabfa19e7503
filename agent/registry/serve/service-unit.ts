import { asset } from '../../assets.ts';
import { REGISTRY_NAME, type RegistryPlan } from './service-plan.ts';

export const UNIT_NAME = `${REGISTRY_NAME}.service`;
/** The unit itself, which does not survive a reboot. */
export const UNIT_PATH = `/run/systemd/system/${UNIT_NAME}`;
/** The quadlet from which podman's generator makes the unit. Source: podman-systemd.unit(5), "Temporary quadlets". */
export const QUADLET_PATH = `/run/containers/systemd/${REGISTRY_NAME}.container`;

/** The systemd unit that runs the registry. Pure. Source: systemd.service(5), podman-generate-systemd(1). */
export function renderRegistryUnit(plan: RegistryPlan): string {
  return fill(asset('agent/units/prestage-registry.service'), {
    ADDRESS: plan.address,
    ENVIRONMENT: environment(plan),
    GLOBAL: plan.global.map((argument) => `${unitWord(argument)} `).join(''),
    RUN: unitWords([...plan.options, plan.image, ...plan.command.slice(1)]),
  });
}

/** The quadlet that runs the registry. Pure. Source: podman-systemd.unit(5). */
export function renderQuadlet(plan: RegistryPlan): string {
  return fill(asset('agent/units/prestage-registry.container'), {
    ADDRESS: plan.address,
    ENVIRONMENT: environment(plan),
    IMAGE: plan.image,
    EXEC: unitWords(plan.command.slice(1)),
    GLOBAL: unitWords(plan.global),
    OPTIONS: unitWords(withoutName(plan.options)),
  });
}

/**
 * One argument as written in a unit's command line: `%` and `$` doubled, quoted if it contains anything but plain characters.
 * Source: systemd.service(5), "Command lines"; systemd.syntax(7).
 */
export function unitWord(argument: string): string {
  const plain = argument.replaceAll('%', '%%').replaceAll('$', '$$$$');
  if (/^[A-Za-z0-9_@+=:,.%$/[\]-]+$/.test(plain)) return plain;
  return `"${plain.replaceAll(/[\\"]/g, '\\$&').replaceAll(/\p{Cc}/gu, hexEscape)}"`;
}

/** A line end in the argument would end the line of the unit. */
function hexEscape(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
}

function unitWords(argv: readonly string[]): string {
  return argv.map(unitWord).join(' ');
}

/** The quadlet has a key for the name. */
function withoutName(options: readonly string[]): readonly string[] {
  const at = options.indexOf('--name');
  return options.filter((_, index) => index !== at && index !== at + 1);
}

function environment({ env }: RegistryPlan): string {
  return Object.entries(env)
    .map(([name, value]) => `\nEnvironment="${`${name}=${value}`.replaceAll('%', '%%').replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`)
    .join('');
}

function fill(text: string, values: Readonly<Record<string, string>>): string {
  return text.replaceAll(/@([A-Z]+)@/g, (placeholder, name: string) => values[name] ?? placeholder);
}
