import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Ajv } from 'ajv';
import { parse } from 'yaml';
import { STAGES, type Stage } from '../../../agent/model/stage.ts';
import type { IgnitionSpec } from '../../../agent/units/config.ts';
import { IGNITION_SPECS } from '../../../agent/units/config.ts';
import type { IgnitionForm } from '../../../agent/units/forms.ts';
import { runIgnition } from '../../../agent/units/ignition.ts';
import { author, fieldFile, PIN } from '../../support/ignition.ts';

/** Reads a value of parsed JSON or YAML by its keys; undefined where a key is missing. */
function at(value: unknown, ...keys: readonly (string | number)[]): unknown {
  return keys.reduce<unknown>((inner, key) => (isRecord(inner) ? inner[key] : undefined), value);
}

function isRecord(value: unknown): value is Record<string | number, unknown> {
  return typeof value === 'object' && value !== null;
}

function parseJson(text: unknown): unknown {
  assert.equal(typeof text, 'string');
  return JSON.parse(String(text));
}

async function rendered(stage: Stage, as: IgnitionForm, spec?: IgnitionSpec): Promise<string> {
  return (await runIgnition({ stage, as, agentSha256: PIN, policy: 'closed', ...(spec && { spec }) }, author)).text;
}

/** A test against a reference file of the field, which lies next to the checkout on machines that have it. */
function againstField(title: string, path: string, act: (text: string) => Promise<void>): void {
  test(title, async (t: TestContext) => {
    const text = fieldFile(path);
    if (text !== undefined) return await act(text);
    t.diagnostic(`went without ${path}: it is not on this machine`);
  });
}

for (const spec of IGNITION_SPECS) {
  const minor = spec.split('.')[1];
  againstField(`the overrides follow the JSON schema of Ignition ${spec}`, `ignition/ignition-v3_${minor}.schema.json`, async (text) => {
    // The schema is of draft 4; it uses nothing that draft 7 reads differently, except the mark itself.
    const { $schema, ...schema } = parseObject(text);
    assert.equal($schema, 'http://json-schema.org/draft-04/schema#');
    const validate = new Ajv({ strict: false }).compile(schema);
    assert.equal(validate({ ignition: { version: spec }, storage: { files: [{ mode: 'x' }] } }), false, 'the schema refuses what is wrong');
    for (const stage of STAGES) {
      validate(JSON.parse(await rendered(stage, 'ign', spec)));
      assert.deepEqual(validate.errors ?? [], []);
    }
  });
}

againstField('the bodies have the members that the Assisted Installer reads', 'openshift/assisted-service-swagger.yaml', async (text) => {
  const swagger: unknown = parse(text);
  for (const { stage, form, path } of [
    { stage: 'discovery', form: 'patch', path: '/v2/infra-envs/{infra_env_id}' },
    { stage: 'installed', form: 'patch', path: '/v2/infra-envs/{infra_env_id}/hosts/{host_id}/ignition' },
    { stage: 'installed', form: 'installer-args', path: '/v2/infra-envs/{infra_env_id}/hosts/{host_id}/installer-args' },
  ] as const) {
    const parameters = at(swagger, 'paths', path, 'patch', 'parameters');
    assert.ok(Array.isArray(parameters), path);
    const reference = String(
      at(
        parameters.find((parameter: unknown) => at(parameter, 'in') === 'body'),
        'schema',
        '$ref',
      ),
    );
    const properties = at(swagger, 'definitions', reference.replace('#/definitions/', ''), 'properties');
    for (const [name, value] of Object.entries(parseObject(await rendered(stage, form)))) {
      assert.equal(at(properties, name, 'type'), Array.isArray(value) ? 'array' : typeof value, `${reference}: ${name}`);
    }
  }
});

/** Where a fragment carries its strings, and the place of each of them in the schema of the object. */
const fragments: readonly {
  readonly file: string;
  readonly stage: Stage;
  readonly form: IgnitionForm;
  readonly fields: readonly (readonly (string | number)[])[];
}[] = [
  { file: 'openshift/crd-infraenv.yaml', stage: 'discovery', form: 'infraenv', fields: [['ignitionConfigOverride']] },
  { file: 'openshift/crd-clusterinstance.yaml', stage: 'discovery', form: 'clusterinstance', fields: [['ignitionConfigOverride']] },
  {
    file: 'openshift/crd-clusterinstance.yaml',
    stage: 'installed',
    form: 'clusterinstance',
    fields: [
      ['nodes', 0, 'ignitionConfigOverride'],
      ['nodes', 0, 'installerArgs'],
    ],
  },
];

for (const { file, stage, form, fields } of fragments) {
  againstField(`the ${stage} fragment for ${form} has kind, version and fields of its CRD`, file, async (text) => {
    const definition: unknown = parse(text);
    const fragment: unknown = parse(await rendered(stage, form));
    const versions = at(definition, 'spec', 'versions');
    assert.ok(Array.isArray(versions));
    const [group, version] = String(at(fragment, 'apiVersion')).split('/');
    assert.deepEqual([at(definition, 'spec', 'group'), at(definition, 'spec', 'names', 'kind')], [group, at(fragment, 'kind')]);
    const schema = at(
      versions.find((candidate: unknown) => at(candidate, 'name') === version),
      'schema',
      'openAPIV3Schema',
      'properties',
      'spec',
    );
    for (const keys of fields) {
      const place = keys.flatMap((key) => (typeof key === 'number' ? ['items'] : ['properties', key]));
      assert.equal(at(schema, ...place, 'type'), 'string', keys.join('.'));
      parseJson(at(fragment, 'spec', ...keys));
    }
  });
}

/** The override within each form that carries it as a string. */
const carriers: readonly { readonly stage: Stage; readonly form: IgnitionForm; readonly keys: readonly (string | number)[] }[] = [
  { stage: 'discovery', form: 'patch', keys: ['ignition_config_override'] },
  { stage: 'installed', form: 'patch', keys: ['config'] },
  { stage: 'discovery', form: 'infraenv', keys: ['spec', 'ignitionConfigOverride'] },
  { stage: 'discovery', form: 'siteconfig', keys: ['spec', 'clusters', 0, 'ignitionConfigOverride'] },
  { stage: 'installed', form: 'siteconfig', keys: ['spec', 'clusters', 0, 'nodes', 0, 'ignitionConfigOverride'] },
  { stage: 'discovery', form: 'clusterinstance', keys: ['spec', 'ignitionConfigOverride'] },
  { stage: 'installed', form: 'clusterinstance', keys: ['spec', 'nodes', 0, 'ignitionConfigOverride'] },
  { stage: 'installed', form: 'bmh', keys: ['metadata', 'annotations', 'bmac.agent-install.openshift.io/ignition-config-overrides'] },
];

for (const { stage, form, keys } of carriers) {
  test(`the ${stage} override travels whole as a string in ${form}`, async () => {
    assert.deepEqual(parseJson(at(parse(await rendered(stage, form)), ...keys)), JSON.parse(await rendered(stage, 'ign')));
  });
}

const argumentCarriers: readonly { readonly form: IgnitionForm; readonly keys: readonly (string | number)[] }[] = [
  { form: 'siteconfig', keys: ['spec', 'clusters', 0, 'nodes', 0, 'installerArgs'] },
  { form: 'clusterinstance', keys: ['spec', 'nodes', 0, 'installerArgs'] },
  { form: 'bmh', keys: ['metadata', 'annotations', 'bmac.agent-install.openshift.io/installer-args'] },
];
for (const { form, keys } of argumentCarriers) {
  test(`the arguments that keep the partition go with the installed override in ${form}`, async () => {
    assert.deepEqual(parseJson(at(parse(await rendered('installed', form)), ...keys)), ['--save-partlabel', 'data']);
  });
}

function parseObject(text: string): Record<string, unknown> {
  const value: unknown = JSON.parse(text);
  assert.ok(isRecord(value));
  return value;
}
