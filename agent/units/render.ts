import { encodeDataUrl } from '../model/data-url.ts';
import { PrestageError } from '../model/errors.ts';
import type { Stage } from '../model/stage.ts';
import { type IgnitionConfig, type IgnitionSpec, parseConfig } from './config.ts';

/** Effect of a failed run on the boot: with `open` the boot continues, with `closed` the units that need the images do not start. */
export type FailurePolicy = 'open' | 'closed';

export interface UnitOptions {
  /** GPT label of the data partition; see checkLabel. */
  readonly label: string;
  readonly policy: FailurePolicy;
  /** sha256 that the bundle's manifest must have; if left out, the node accepts any. */
  readonly bundleSha256?: string | undefined;
  /** Further arguments of `run`, from runArguments. */
  readonly arguments?: readonly string[] | undefined;
}

/** The source files for an ignition config. */
export interface IgnitionTexts {
  /** ignition-templates/STAGE.ign.json */
  readonly template: string;
  /** agent/units/prestage-agent-STAGE.service */
  readonly unit: string;
  /** agent/units/prestage-launcher.sh */
  readonly launcher: string;
}

export interface IgnitionOptions extends UnitOptions {
  readonly spec: IgnitionSpec;
  /** The executable that the launcher may run: sha256, 64 lower-case hex digits. Without it the launcher runs no executable from the partition. */
  readonly agentSha256: string | undefined;
  readonly texts: IgnitionTexts;
}

/** Labels that need no quoting in a unit's command line and in a shell assignment; a GPT name has at most 36 UTF-16 units (UEFI, table 5.6). */
const LABEL = /^[A-Za-z0-9][A-Za-z0-9._-]{0,35}$/;
const PLACEHOLDER = /@([A-Z_]+)@/g;

/**
 * Renders the systemd unit of a stage. With the policy `open` its RequiredBy= is removed, so that nothing requires the unit.
 * @throws PrestageError ERR_USAGE for an invalid label, ERR_INTERNAL for an unknown placeholder
 */
export function renderUnit(text: string, options: UnitOptions): string {
  const { label, policy, bundleSha256, arguments: more = [] } = options;
  checkLabel(label);
  checkSha256('--bundle-sha256', bundleSha256, 'prestage.json');
  const kept = policy === 'closed' ? text : text.replaceAll(/^RequiredBy=.*\n/gm, '');
  const pin = bundleSha256 === undefined ? '' : ` --bundle-sha256 ${bundleSha256}`;
  return fill(kept, { LABEL: label, POLICY: policy, PIN: pin, SETTINGS: more.map((word) => ` ${word}`).join('') });
}

/**
 * Renders the environment of the launcher, /etc/prestage-agent/launcher.env: shell assignments.
 * @throws PrestageError ERR_USAGE
 */
export function renderLauncherEnv(options: Pick<IgnitionOptions, 'label' | 'agentSha256'>): string {
  checkLabel(options.label);
  const { agentSha256 } = options;
  checkSha256('--agent-sha256', agentSha256, 'prestage-agent-linux-x64');
  return `LABEL=${options.label}\nAGENT_SHA256=${agentSha256 ?? ''}\n`;
}

/**
 * Renders the whole override of a stage from its template.
 * @throws PrestageError ERR_USAGE for an invalid label or digest, ERR_INTERNAL for an unknown placeholder,
 * ERR_IGNITION for a template that is not an ignition config
 */
export function renderIgnition(stage: Stage, options: IgnitionOptions): IgnitionConfig {
  const { texts } = options;
  const values = {
    SPEC: options.spec,
    LAUNCHER: encodeDataUrl(texts.launcher),
    LAUNCHER_ENV: encodeDataUrl(renderLauncherEnv(options)),
    UNIT: renderUnit(texts.unit, options),
  };
  const origin = `ignition-templates/${stage}.ign.json`;
  // Each placeholder is inside a JSON string of the template, so its value is escaped as JSON.
  const text = fill(
    texts.template,
    mapValues(values, (value) => JSON.stringify(value).slice(1, -1)),
  );
  return parseConfig(text, origin);
}

/**
 * Refuses a label that a unit or a shell would interpret differently.
 * @throws PrestageError ERR_USAGE
 */
function checkLabel(label: string): void {
  if (LABEL.test(label)) return;
  throw new PrestageError(
    'ERR_USAGE',
    `${JSON.stringify(label)} is not a valid label: use 1 to 36 letters, digits, dots, underscores or hyphens, starting with a letter or digit`,
    'Relabel the data partition (sgdisk --change-name N:data DISK) and set --label',
  );
}

function checkSha256(flag: string, value: string | undefined, file: string): void {
  if (value === undefined || /^[0-9a-f]{64}$/.test(value)) return;
  throw new PrestageError(
    'ERR_USAGE',
    `"${value}" is not a sha256: it must be 64 lower-case hex digits`,
    `Set ${flag} to the first field of: sha256sum ${file}`,
  );
}

function fill(text: string, values: Readonly<Record<string, string>>): string {
  return text.replaceAll(PLACEHOLDER, (placeholder, name: string) => {
    const value = values[name];
    if (value !== undefined) return value;
    throw new PrestageError(
      'ERR_INTERNAL',
      `the template has an unknown placeholder ${placeholder}`,
      `Use one of @${Object.keys(values).join('@, @')}@`,
    );
  });
}

function mapValues(values: Readonly<Record<string, string>>, change: (value: string) => string): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, change(value)]));
}
