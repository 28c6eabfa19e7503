import * as v from 'valibot';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { listFaults } from '../model/faults.ts';

/** The Ignition specifications that the Assisted Installer accepts in an override; no others. */
export const IGNITION_SPECS = ['3.1.0', '3.2.0'] as const;
export type IgnitionSpec = (typeof IGNITION_SPECS)[number];

const resource = v.looseObject({
  source: v.nullish(v.string()),
  compression: v.nullish(v.string()),
  verification: v.optional(v.looseObject({ hash: v.nullish(v.string()) })),
});
const node = { path: v.string(), overwrite: v.nullish(v.boolean()) };
const mode = v.nullish(v.pipe(v.number(), v.integer()));
const unit = v.looseObject({
  name: v.string(),
  enabled: v.nullish(v.boolean()),
  contents: v.nullish(v.string()),
  dropins: v.optional(v.array(v.looseObject({ name: v.string(), contents: v.nullish(v.string()) }))),
});

/** The parts of a config that the agent writes, merges or checks. Everything else is kept unchanged. */
const configSchema = v.looseObject({
  ignition: v.looseObject({ version: v.picklist(IGNITION_SPECS) }),
  storage: v.optional(
    v.looseObject({
      files: v.optional(v.array(v.looseObject({ ...node, mode, contents: v.optional(resource), append: v.optional(v.array(resource)) }))),
      directories: v.optional(v.array(v.looseObject({ ...node, mode }))),
      links: v.optional(v.array(v.looseObject({ ...node, target: v.string() }))),
    }),
  ),
  systemd: v.optional(v.looseObject({ units: v.optional(v.array(unit)) })),
});

/**
 * An Ignition config of specification 3.1.0 or 3.2.0 whose known parts have the right types.
 * Source: ignition docs/configuration-v3_1.md and configuration-v3_2.md.
 */
export type IgnitionConfig = v.InferOutput<typeof configSchema>;
export type IgnitionResource = v.InferOutput<typeof resource>;
export type IgnitionUnit = v.InferOutput<typeof unit>;

/** Keys for which null means the same as a missing key, since Go decodes JSON like this. Butane and Go programs write such nulls. */
const NULLABLE: ReadonlySet<string> = new Set([
  'storage',
  'files',
  'directories',
  'links',
  'contents',
  'append',
  'verification',
  'systemd',
  'units',
  'dropins',
]);

/**
 * Reads a config; the order of its keys is kept. Lists and objects that are null are left out.
 * @param origin name of the text for messages: a file's path
 * @throws PrestageError ERR_IGNITION with every fault and its JSON path
 */
export function parseConfig(text: string, origin: string): IgnitionConfig {
  const value = withoutNulls(parseJson(text, origin));
  const { issues = [] } = v.safeParse(configSchema, value);
  // `is` narrows the value itself. The output of a parse would put the known keys first.
  if (v.is(configSchema, value)) return value;
  throw ignitionFaults(origin, issues.map(describeIssue));
}

/** Removes nulls only in the parts that the schema knows. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([key, item]) => item !== null || !NULLABLE.has(key));
  return Object.fromEntries(entries.map(([key, item]) => [key, NULLABLE.has(key) ? withoutNulls(item) : item]));
}

/** The error for a config with faults. Each fault begins with its JSON path. */
export function ignitionFaults(origin: string, faults: readonly string[]): PrestageError {
  const named = faults.map((fault) => `${origin}: ${fault}`);
  return new PrestageError(
    'ERR_IGNITION',
    listFaults(`${origin} is not a usable ignition override`, named),
    'Correct the override, then render it again; ignition-validate can check it, too',
  );
}

/** A place in JSON: `$.storage.files[0].mode`. */
function jsonPath(keys: readonly unknown[]): string {
  return keys.reduce<string>((path, key) => (typeof key === 'number' ? `${path}[${key}]` : `${path}.${String(key)}`), '$');
}

function parseJson(text: string, origin: string): unknown {
  try {
    return JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (error) {
    throw ignitionFaults(origin, [`$: it is not JSON: ${withoutExcerpt(errorRecord(error).message)}`]);
  }
}

/** V8 quotes the text around a fault, which can be a secret: `Unexpected token 'x', ..."y": x"... is not valid JSON`. */
function withoutExcerpt(message: string): string {
  return message.replace(/, (?:\.\.\.)?"[\s\S]*"(?:\.\.\.)? is not valid JSON$/, '');
}

function describeIssue(issue: v.BaseIssue<unknown>): string {
  const path = jsonPath((issue.path ?? []).map((item) => item.key));
  if (path === '$.ignition.version') {
    return `${path}: it must be one of ${IGNITION_SPECS.join(', ')}, which the Assisted Installer accepts; it is ${issue.received}`;
  }
  return issue.received === 'undefined'
    ? `${path}: it is missing`
    : `${path}: it must be ${issue.expected ?? issue.type}; it is ${issue.received}`;
}
