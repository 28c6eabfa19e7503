import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { asset } from '../../agent/assets.ts';
import { linuxHost } from '../../agent/host/linux.ts';
import type { Stage } from '../../agent/model/stage.ts';
import { type IgnitionConfig, parseConfig } from '../../agent/units/config.ts';
import { type IgnitionOptions, type IgnitionTexts, renderIgnition } from '../../agent/units/render.ts';
import { TOP } from './cache.ts';

/** A digest that no executable has. */
export const PIN = 'a1'.repeat(32);

/** The machine of an author, silent. */
export const author = linuxHost({ root: '/', env: {}, log: () => {} });

/** The texts of a stage as the executable carries them. */
export function shippedTexts(stage: Stage): IgnitionTexts {
  return {
    template: asset(`ignition-templates/${stage}.ign.json`),
    unit: asset(`agent/units/prestage-agent-${stage}.service`),
    launcher: asset('agent/units/prestage-launcher.sh'),
  };
}

/** Our override of a stage, pinned, with the label `data` and the policy `open` where nothing else is said. */
export function ourIgnition(stage: Stage, options: Partial<IgnitionOptions> = {}): IgnitionConfig {
  return renderIgnition(stage, { spec: '3.1.0', label: 'data', policy: 'open', agentSha256: PIN, texts: shippedTexts(stage), ...options });
}

/** A config from a value of any shape, as it would come from a file. */
export function configOf(value: unknown): IgnitionConfig {
  return parseConfig(JSON.stringify(value), 'override.ign');
}

/** A reference file of the field, next to the checkout; undefined on machines that lack it. */
export function fieldFile(path: string): string | undefined {
  try {
    return readFileSync(join(TOP, '../shared/data', path), 'utf8');
  } catch {
    return undefined;
  }
}
