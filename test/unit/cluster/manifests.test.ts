import assert from 'node:assert/strict';
import { describe, it, type TestContext, test } from 'node:test';
import { Ajv } from 'ajv';
import { parse as parseToml } from 'smol-toml';
import * as v from 'valibot';
import { parse } from 'yaml';
import { MANIFEST_FORMS, ROLES, renderManifests } from '../../../agent/cluster/manifests.ts';
import { STORE_PATH } from '../../../agent/model/places.ts';
import { assertGolden } from '../../support/golden.ts';
import { fieldFile } from '../../support/ignition.ts';
import { filesOf } from '../../support/machine-config.ts';
import { thrownBy } from '../../support/thrown.ts';

const PINNED = ['quay.io/b/c:1', `quay.io/a/b@sha256:${'a'.repeat(64)}`, 'quay.io/b/c:1'];
const all = { forms: MANIFEST_FORMS, role: 'master', pinned: PINNED } as const;

describe('manifests', () => {
  for (const form of MANIFEST_FORMS) {
    for (const role of ROLES) {
      it(`have the objects that a cluster takes, as ${form} for ${role}`, () => {
        const { manifests, notices } = renderManifests({ ...all, forms: [form], role });
        assertGolden(
          `manifests/${form}.${role}.json`,
          `${JSON.stringify({ manifests, notices, files: filesOf(manifests) }, undefined, 2)}\n`,
        );
      });
    }
  }

  it('name the store in a storage.conf that is one, and pin each reference once', () => {
    const files = filesOf(renderManifests(all).manifests);
    const conf = v.parse(
      v.object({ storage: v.object({ options: v.object({ additionalimagestores: v.array(v.string()) }) }) }),
      parseToml(files['/etc/containers/storage.conf'] ?? ''),
    );
    assert.deepEqual(conf.storage.options.additionalimagestores, [STORE_PATH]);
    const crio = v.parse(
      v.object({ crio: v.object({ image: v.object({ pinned_images: v.array(v.string()) }) }) }),
      parseToml(files['/etc/crio/crio.conf.d/60-prestage-pinned'] ?? ''),
    );
    assert.deepEqual(crio.crio.image.pinned_images, [`quay.io/a/b@sha256:${'a'.repeat(64)}`, 'quay.io/b/c:1']);
  });

  for (const store of ['relative', '/a//b', '/a b', '/', `/${'a'.repeat(256)}`]) {
    it(`refuse a store that a ContainerRuntimeConfig would refuse: ${store.slice(0, 20)}`, () => {
      assert.deepEqual(
        thrownBy(() => renderManifests({ ...all, store })),
        {
          code: 'ERR_USAGE',
          message: `"${store}" is not a path that a ContainerRuntimeConfig accepts`,
          remedy: 'Give an absolute path of at most 256 of the characters a-z, A-Z, 0-9, "/", ".", "_" and "-", without "//"',
        },
      );
    });
  }
});

/** A test against a reference file of the field, which lies next to the checkout on machines that have it. */
function againstField(title: string, path: string, act: (text: string) => void): void {
  test(title, (t: TestContext) => {
    const text = fieldFile(path);
    if (text !== undefined) return act(text);
    t.diagnostic(`went without ${path}: it is not on this machine`);
  });
}

const crdSchema = v.object({
  spec: v.object({ versions: v.array(v.object({ schema: v.object({ openAPIV3Schema: v.looseObject({}) }) })) }),
});

againstField(
  'a ContainerRuntimeConfig follows the schema of its CRD, which has no other fields',
  'openshift/crd-containerruntimeconfig-additionalstorage.yaml',
  (text) => {
    const schema = v.parse(crdSchema, parse(text)).spec.versions[0]?.schema.openAPIV3Schema ?? {};
    // The API server drops fields that a schema does not know: here they are refused.
    const validate = new Ajv({ strict: false, validateFormats: false }).compile(closed(schema));
    const [config] = renderManifests(all).manifests.filter(({ kind }) => kind === 'ContainerRuntimeConfig');
    const wrong = { ...config, spec: { containerRuntimeConfig: { additionalImageStore: [] } } };
    assert.equal(validate(wrong), false, 'the schema refuses what is wrong');
    validate(config);
    assert.deepEqual(validate.errors ?? [], []);
  },
);

againstField(
  'the ignition of every MachineConfig follows the JSON schema of Ignition 3.2.0',
  'ignition/ignition-v3_2.schema.json',
  (text) => {
    const { $schema, ...schema } = v.parse(v.looseObject({ $schema: v.string() }), JSON.parse(text));
    assert.match($schema, /draft-04/);
    const validate = new Ajv({ strict: false }).compile(schema);
    const configs = renderManifests(all).manifests.filter(({ kind }) => kind === 'MachineConfig');
    assert.equal(configs.length, 3);
    for (const { spec } of configs) {
      validate(spec.config);
      assert.deepEqual(validate.errors ?? [], []);
    }
  },
);

/** The schema with no field allowed that it does not name. */
function closed(schema: unknown): Record<string, unknown> {
  if (typeof schema !== 'object' || schema === null) return {};
  const entries = Object.entries(schema).map(([key, value]): [string, unknown] => {
    if (key === 'properties') return [key, Object.fromEntries(Object.entries(Object(value)).map(([name, inner]) => [name, closed(inner)]))];
    return [key, key === 'items' ? closed(value) : value];
  });
  const isOpen = !Object.hasOwn(schema, 'properties');
  return { ...Object.fromEntries(entries), ...(isOpen ? {} : { additionalProperties: false }) };
}
