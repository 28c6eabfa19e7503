import { gunzipSync } from 'node:zlib';
import * as v from 'valibot';
import { decodeDataUrl } from '../model/data-url.ts';

/** A config that another one carries in a data URL. */
export interface NestedConfig {
  /** Of the URL, such as `$.ignition.config.merge[0].source`; below it, each place after a comma. */
  readonly place: string;
  readonly storage: unknown;
}

/** Configs within configs that are read: tools write one level. */
const DEPTH_LIMIT = 4;
/** Of one config after inflating. An override of the Assisted Installer is smaller. */
const LIMIT_BYTES = 4 * 1024 * 1024;

const sourceSchema = v.object({ source: v.nullish(v.string()), compression: v.nullish(v.string()) });
const configSchema = v.object({
  ignition: v.object({ config: v.nullish(v.object({ merge: v.nullish(v.array(v.unknown())), replace: v.nullish(v.unknown()) })) }),
  storage: v.optional(v.unknown()),
});

/**
 * The configs that a config merges or is replaced by, as far as it carries them itself: Ignition applies them as it does the rest. What an address
 * brings is not known here. Pure.
 * Source: ignition docs/configuration-v3_2.md, ignition.config.
 */
export function nestedConfigs(config: unknown, prefix = '', depth = 0): readonly NestedConfig[] {
  const parsed = v.safeParse(configSchema, config);
  if (!parsed.success || depth === DEPTH_LIMIT) return [];
  const { merge, replace } = parsed.output.ignition.config ?? {};
  const sources = [
    ...(merge ?? []).map((resource, index) => ({ resource, place: `${prefix}$.ignition.config.merge[${index}].source` })),
    { resource: replace, place: `${prefix}$.ignition.config.replace.source` },
  ];
  return sources.flatMap(({ resource, place }) => {
    const inner = configIn(resource);
    const read = v.safeParse(configSchema, inner);
    return read.success ? [{ place, storage: read.output.storage }, ...nestedConfigs(inner, `${place}, `, depth + 1)] : [];
  });
}

/** Undefined if it is not there, or cannot be read: Ignition itself refuses it then. */
function configIn(resource: unknown): unknown {
  const parsed = v.safeParse(sourceSchema, resource);
  const url = parsed.success ? parsed.output.source : undefined;
  const decoded = url?.startsWith('data:') === true ? decodeDataUrl(url) : undefined;
  if (decoded?.kind !== 'bytes') return undefined;
  try {
    const isPacked = parsed.success && parsed.output.compression === 'gzip';
    const bytes = isPacked ? gunzipSync(decoded.bytes, { maxOutputLength: LIMIT_BYTES }) : decoded.bytes;
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}
