import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import fc from 'fast-check';
import { stringify } from 'smol-toml';
import { addStore, DEFAULT_STORAGE_CONF, listedStores, removeStore } from '../../../agent/engine/storage-conf.ts';
import { PrestageError } from '../../../agent/model/errors.ts';
import { STORE_PATH } from '../../../agent/model/places.ts';
import { fieldFile } from '../../support/ignition.ts';

const STORE = '/var/store';

describe('a store is added to storage.conf', () => {
  for (const [form, before, after] of [
    ['an empty text', '', '[storage.options]\nadditionalimagestores = ["/var/store"]\n'],
    [
      'no options table',
      '[storage]\ndriver = "overlay" # fast',
      '[storage]\ndriver = "overlay" # fast\n\n[storage.options]\nadditionalimagestores = ["/var/store"]\n',
    ],
    [
      'an options table without the key',
      '[storage]\ndriver = "overlay"\n\n[storage.options]\n# sizes\nsize = ""\n',
      '[storage]\ndriver = "overlay"\n\n[storage.options]\nadditionalimagestores = ["/var/store"]\n# sizes\nsize = ""\n',
    ],
    ['a header at the very end', '[storage.options] # here', '[storage.options] # here\nadditionalimagestores = ["/var/store"]\n'],
    [
      'only tables below the options',
      '[storage]\n[storage.options.overlay]\nsize = ""\n',
      '[storage]\n[storage.options]\nadditionalimagestores = ["/var/store"]\n\n[storage.options.overlay]\nsize = ""\n',
    ],
    [
      'dotted keys below [storage]',
      '[storage]\noptions.size = "1"\ndriver = "overlay"\n',
      '[storage]\noptions.size = "1"\noptions.additionalimagestores = ["/var/store"]\ndriver = "overlay"\n',
    ],
    ['an empty list', '[storage.options]\nadditionalimagestores = []\n', '[storage.options]\nadditionalimagestores = ["/var/store"]\n'],
    [
      'the list of the Machine Config Operator',
      '[storage.options]\nadditionalimagestores = [\n]\n\n# next\n',
      '[storage.options]\nadditionalimagestores = [\n    "/var/store",\n]\n\n# next\n',
    ],
    [
      'a comment alone in the list',
      '[storage.options]\nadditionalimagestores = [ # none "yet" ]\n]\n',
      '[storage.options]\nadditionalimagestores = ["/var/store" # none "yet" ]\n]\n',
    ],
    [
      'another store on the line',
      '[storage.options]\nadditionalimagestores = ["/a" ] # theirs\n',
      '[storage.options]\nadditionalimagestores = ["/a", "/var/store" ] # theirs\n',
    ],
    [
      'stores on lines of their own, with comments and a last comma',
      '[storage.options]\nadditionalimagestores = [\n  "/a", # one\n  \'/b]#\', # two\n]\n',
      '[storage.options]\nadditionalimagestores = [\n  "/a", # one\n  \'/b]#\',\n  "/var/store", # two\n]\n',
    ],
    [
      'lines that end in CR LF',
      '[storage.options]\r\nadditionalimagestores = [\r\n]\r\n',
      '[storage.options]\r\nadditionalimagestores = [\r\n    "/var/store",\r\n]\r\n',
    ],
    [
      'quoted and spaced keys',
      '[ storage . "options" ]\n"additionalimagestores"=[]',
      '[ storage . "options" ]\n"additionalimagestores"=["/var/store"]',
    ],
    [
      'the key in other tables and in texts',
      '[other]\nadditionalimagestores = []\ntext = """\n[storage.options]\nadditionalimagestores = []\n"""\n[storage.options]\nx = 1\n',
      '[other]\nadditionalimagestores = []\ntext = """\n[storage.options]\nadditionalimagestores = []\n"""\n[storage.options]\nadditionalimagestores = ["/var/store"]\nx = 1\n',
    ],
  ] as const) {
    it(`where there is ${form}`, () => {
      assert.equal(addStore(before, STORE), after);
      assert.equal(addStore(after, STORE), after, 'a second time changes nothing');
      assert.deepEqual(listedStores(removeStore(after, STORE)), listedStores(before));
    });
  }

  it('where there is our own default', () => {
    assert.equal(
      addStore(DEFAULT_STORAGE_CONF, STORE_PATH),
      '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n\n[storage.options]\nadditionalimagestores = ["/var/lib/prestage-agent/store"]\n',
    );
  });
});

for (const [text, message] of [
  ['[storage', 'storage.conf cannot be changed: Invalid TOML document: incomplete key-value: cannot find end of key'],
  ['[storage.options]\nadditionalimagestores = "/a,/b"\n', 'storage.conf cannot be changed: additionalimagestores is not a list of paths'],
  ['[storage]\noptions = { size = "" }\n', undefined],
  ['storage.options.size = ""\n', undefined],
] as const) {
  test(`what cannot be changed soundly is refused: ${JSON.stringify(text)}`, () => {
    assert.throws(
      () => addStore(text, STORE),
      (error: unknown) => {
        assert.ok(error instanceof PrestageError);
        assert.equal(error.code, 'ERR_SYSTEM_FILE');
        assert.match(error.message, /^storage\.conf cannot be changed: /);
        if (message !== undefined) assert.equal(error.message, message);
        assert.equal(error.remedy, 'Correct /etc/containers/storage.conf, and write its options in a plain [storage.options] table');
        return true;
      },
    );
  });
}

/** A storage.conf as somebody may have written it: any stores, any other options, comments, blanks and line ends. */
const confs = fc
  .record({
    stores: fc.option(fc.uniqueArray(fc.stringMatching(/^\/[a-z#\]",' \\]{0,8}$/), { maxLength: 4 })),
    form: fc.constantFrom('line', 'lines', 'comma'),
    comment: fc.constantFrom('', ' # a ] "comment', ' # additionalimagestores = ["/x"]'),
    size: fc.option(fc.string({ maxLength: 5 })),
    inner: fc.boolean(),
    eol: fc.constantFrom('\n', '\r\n'),
  })
  .map(({ stores, form, comment, size, inner, eol }) => {
    const quoted = (stores ?? []).map((store) => JSON.stringify(store));
    const list = form === 'line' ? `[${quoted.join(', ')}]` : `[${quoted.map((one) => `${eol}\t${one},${comment}`).join('')}${eol}]`;
    const lines = [
      `# storage${comment}`,
      '[storage]',
      'driver = "overlay"',
      ...(stores === null && size === null ? [] : [`[storage.options]${comment}`]),
      ...(size === null ? [] : [stringify({ size }).trim()]),
      ...(stores === null ? [] : [`additionalimagestores = ${list}${comment}`]),
      ...(inner ? ['[storage.options.overlay]', 'mountopt = "nodev"'] : []),
    ];
    return { text: lines.join(eol), stores: stores ?? [] };
  });

test('whatever a storage.conf holds, the store comes behind the others, and no line is lost or moved', () => {
  fc.assert(
    fc.property(confs, ({ text, stores }) => {
      const added = addStore(text, STORE);
      assert.deepEqual(listedStores(added), [...stores, STORE]);
      assert.equal(added.includes('mountopt'), text.includes('mountopt'));
      // Every character of the old text is in the new one, in order.
      let at = 0;
      for (const character of added) if (character === text[at]) at++;
      assert.equal(at, text.length);
      assert.equal(addStore(added, STORE), added);
    }),
    { numRuns: 300 },
  );
});

test('what was added can be taken out again, and the other stores stay', () => {
  fc.assert(
    fc.property(confs, ({ text, stores }) => {
      const without = removeStore(addStore(text, STORE), STORE);
      assert.deepEqual(listedStores(without), stores);
      assert.equal(removeStore(without, STORE), without);
    }),
    { numRuns: 300 },
  );
});

test('the template of the Machine Config Operator keeps every line', (t) => {
  const template = fieldFile('mco/container-storage.yaml');
  if (template === undefined) return t.diagnostic('went without mco/container-storage.yaml: it is not on this machine');
  const text = template
    .slice(template.indexOf('inline: |\n') + 'inline: |\n'.length)
    .replaceAll(/^ {4}/gm, '')
    // Go template actions stand in it.
    .replaceAll(/^\{\{.*\}\}\n/gm, '');
  const added = addStore(text, STORE_PATH);
  assert.deepEqual(
    added.split('\n').filter((line) => line !== `    "${STORE_PATH}",`),
    text.split('\n'),
  );
});
