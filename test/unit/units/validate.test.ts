import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeDataUrl, encodeDataUrl } from '../../../agent/model/data-url.ts';
import { validateConfig } from '../../../agent/units/validate.ts';
import { configOf, ourIgnition } from '../../support/ignition.ts';
import { accepted, FILE, faulty, UNIT, withFile, withUnit } from '../../support/ignition-faults.ts';
import { thrownBy } from '../../support/thrown.ts';

for (const { title, config, faults } of faulty) {
  test(`validation names ${title} with its place`, () => {
    assert.deepEqual(validateConfig(configOf(config)), faults);
  });
}

test('validation reports every fault of a config, in the order of the config', () => {
  const config = configOf({
    ignition: { version: '3.1.0' },
    storage: { files: [{ path: 'a', mode: 755 }] },
    systemd: { units: [{ name: 'x' }] },
  });
  assert.deepEqual(
    validateConfig(config).map(({ path }) => path),
    [`${FILE}.path`, `${FILE}.mode`, `${UNIT}.name`],
  );
});

test('validation accepts what the specifications allow', () => {
  assert.deepEqual(
    accepted.map((config) => validateConfig(configOf(config))),
    accepted.map(() => []),
  );
});

test('validation finds nothing in what we render', () => {
  assert.deepEqual(
    [validateConfig(ourIgnition('discovery')), validateConfig(ourIgnition('installed', { spec: '3.2.0', policy: 'closed' }))],
    [[], []],
  );
});

test('every line outside the grammar of a unit is named', () => {
  const faults = validateConfig(configOf(withUnit({ name: 'a.service', contents: '[Unit\nAfter\n' })));
  assert.deepEqual(
    faults.map(({ message }) => message),
    ['line 1 is not a section, an option or a comment', 'line 2 is not a section, an option or a comment'],
  );
});

test('a value that is no object, and a mode that is no integer, are refused', () => {
  assert.equal(thrownBy(() => configOf(7)).message, 'override.ign: $: it must be Object; it is 7');
  const { message } = thrownBy(() => configOf(withFile({ path: '/a', mode: 4.5 })));
  assert.equal(message, `override.ign: ${FILE}.mode: it must be integer; it is 4.5`);
});

test('a config of a wrong shape is refused with every fault and its place', () => {
  const value = { ignition: { version: '3.1.0' }, storage: { files: [{ mode: '0755' }, { path: 7 }], directories: {} } };
  assert.throws(() => configOf(value), {
    code: 'ERR_IGNITION',
    message: [
      'override.ign is not a usable ignition override: 4 faults',
      'override.ign: $.storage.files[0].path: it is missing',
      'override.ign: $.storage.files[0].mode: it must be number; it is "0755"',
      'override.ign: $.storage.files[1].path: it must be string; it is 7',
      'override.ign: $.storage.directories: it must be Array; it is Object',
    ].join('\n'),
    remedy: 'Correct the override, then render it again; ignition-validate can check it, too',
  });
});

for (const version of ['3.0.0', '3.3.0', '2.2.0', '3.2.0-experimental']) {
  test(`the specification ${version} is refused by its name`, () => {
    assert.throws(() => configOf({ ignition: { version } }), {
      code: 'ERR_IGNITION',
      message: `override.ign: $.ignition.version: it must be one of 3.1.0, 3.2.0, which the Assisted Installer accepts; it is "${version}"`,
    });
  });
}

test('a data URL that we write is decoded to the same text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const decoded = decodeDataUrl(encodeDataUrl(text));
      assert.deepEqual(decoded, { kind: 'bytes', bytes: Buffer.from(text, 'utf8') });
    }),
  );
});

test('a percent-encoded data URL is decoded to its bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      const encoded = [...bytes].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
      assert.deepEqual(decodeDataUrl(`data:application/x-thing;charset=binary,${encoded}`), { kind: 'bytes', bytes: Buffer.from(bytes) });
    }),
  );
});
