import * as v from 'valibot';
import { PrestageError } from '../model/errors.ts';
import { readSetting, type SettingKey, type SettingValues } from '../model/setting-table.ts';
import { STAGES } from '../model/stage.ts';
import type { ClientsRequest } from '../units/cluster-clients.ts';
import type { ServeRequest } from '../units/cluster-server.ts';
import { IGNITION_SPECS } from '../units/config.ts';
import { IGNITION_FORMS } from '../units/forms.ts';
import type { IgnitionOptions } from '../units/ignition.ts';
import { flagOf } from './flag-of.ts';

/** Kinds of nodes for an override: those of a stage, which have a data partition, or those that pull from other nodes. */
const ROLES = ['discovery', 'installed', 'clients'] as const;

const text = v.exactOptional(v.pipe(v.string(), v.nonEmpty('is empty')));
const schema = v.object({
  role: v.picklist(ROLES, `must be one of ${ROLES.join(', ')}`),
  spec: v.exactOptional(v.picklist(IGNITION_SPECS, `must be one of ${IGNITION_SPECS.join(', ')}`)),
  label: text,
  agentSha256: text,
  bundleSha256: text,
  bundle: text,
  policy: setting('policy'),
  delivery: setting('delivery'),
  trust: setting('trust'),
  placement: setting('placement'),
  memoryReserve: setting('memory-reserve'),
  registryImage: setting('registry-image'),
  serve: setting('serve'),
  address: text,
  port: setting('registry-port'),
  certificate: text,
  key: text,
  ca: text,
  mirror: v.exactOptional(v.array(v.string())),
  stage: v.exactOptional(v.picklist(STAGES, `must be one of ${STAGES.join(', ')}`)),
  registries: text,
  merge: text,
  as: v.exactOptional(v.picklist(IGNITION_FORMS, `must be one of ${IGNITION_FORMS.join(', ')}`)),
});

type Parsed = v.InferOutput<typeof schema>;

/** Options only for nodes of a stage, only for a node that serves, and only for nodes that pull from other nodes. */
const OF_A_STAGE = [
  'label',
  'agentSha256',
  'bundleSha256',
  'policy',
  'delivery',
  'trust',
  'placement',
  'memoryReserve',
  'registryImage',
  'serve',
] as const;
const OF_A_SERVER = ['address', 'port', 'certificate', 'key'] as const;
const OF_CLIENTS = ['mirror', 'stage', 'registries'] as const;

/**
 * The options of `prestage-agent ignition`, by its argument, which names the kind of nodes. Pure.
 * @throws PrestageError ERR_USAGE with every fault
 */
export function ignitionOptions(role: string | undefined, options: Readonly<Record<string, unknown>>): IgnitionOptions {
  const parsed = v.safeParse(schema, { ...options, role });
  if (!parsed.success)
    throw unusable(parsed.issues.map((issue) => `${shown(v.getDotPath(issue)?.replace(/\..*/, '') ?? '')}: ${issue.message}`));
  return parsed.output.role === 'clients' ? clientOptions(parsed.output) : stageOptions(parsed.output, parsed.output.role);
}

function clientOptions(given: Parsed): IgnitionOptions {
  const { mirror = [], ca, bundle, stage = 'installed', registries, spec, merge, as } = given;
  const faults = [
    ...foreign(given, [...OF_A_STAGE, ...OF_A_SERVER], 'is only for nodes with a data partition'),
    ...(mirror.length === 0 ? ['--mirror is not given'] : []),
    ...missing(given, ['ca', 'bundle']),
  ];
  if (faults.length > 0 || ca === undefined || bundle === undefined) throw unusable(faults);
  const clients: ClientsRequest = { mirrors: mirror, ca, bundle, ...(registries !== undefined && { registries }) };
  return { stage, clients, ...(spec && { spec }), ...(merge && { merge }), ...(as && { as }) };
}

function stageOptions(given: Parsed, stage: IgnitionOptions['stage']): IgnitionOptions {
  const { spec, label, agentSha256, bundleSha256, bundle, policy, delivery, trust, placement, memoryReserve, registryImage, merge, as } =
    given;
  const isServing = given.serve === 'cluster';
  const faults = [
    ...foreign(given, OF_CLIENTS, 'is only for clients'),
    ...(isServing ? missing(given, ['address', 'certificate', 'key']) : foreign(given, [...OF_A_SERVER, 'ca'], 'requires --serve cluster')),
    ...(isServing && stage === 'discovery'
      ? ['--serve cluster is only for the stage installed: discovery ends with the installation']
      : []),
  ];
  if (faults.length > 0) throw unusable(faults);
  const serve = isServing ? serveRequest(given) : undefined;
  return {
    stage,
    ...(spec && { spec }),
    ...(label && { label }),
    ...(agentSha256 && { agentSha256 }),
    ...(bundleSha256 && { bundleSha256 }),
    ...(bundle && { bundle }),
    ...(policy && { policy }),
    ...(delivery && { delivery }),
    ...(trust && { trust }),
    ...(placement && { placement }),
    ...(memoryReserve !== undefined && { memoryReserve }),
    ...(registryImage && { registryImage }),
    ...(serve && { serve }),
    ...(merge && { merge }),
    ...(as && { as }),
  };
}

function serveRequest({ address = '', certificate = '', key = '', ca, port }: Parsed): ServeRequest {
  return { address, certificate, key, ...(ca && { ca }), ...(port && { port }) };
}

function foreign(given: Parsed, names: readonly (keyof Parsed)[], why: string): readonly string[] {
  return names.filter((name) => given[name] !== undefined).map((name) => `${shown(name)} ${why}`);
}

function missing(given: Parsed, names: readonly (keyof Parsed)[]): readonly string[] {
  return names.filter((name) => given[name] === undefined).map((name) => `${shown(name)} is not given`);
}

/** A value that the node reads as one of its settings, so it must be valid here. */
function setting<K extends SettingKey>(key: K) {
  return v.exactOptional(
    v.pipe(
      v.string(),
      v.rawTransform<string, SettingValues[K]>(({ dataset, addIssue, NEVER }) => {
        const reading = readSetting(key, dataset.value, 'flag');
        if ('value' in reading) return reading.value;
        addIssue({ message: `must be ${reading.must}` });
        return NEVER;
      }),
    ),
  );
}

/** The argument is not a flag, so it has no dashes. */
function shown(name: string): string {
  return name === 'role' ? 'the stage' : flagOf(name);
}

function unusable(faults: readonly string[]): PrestageError {
  return new PrestageError('ERR_USAGE', `ignition cannot start: ${faults.join('; ')}`, 'Run: prestage-agent ignition --help');
}
