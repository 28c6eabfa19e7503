import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { parseRegistries } from '../../../agent/engine/registries-file.ts';
import { governingEntry, matchLength, relocate } from '../../../agent/engine/registries-match.ts';
import { readRegistries } from '../../../agent/engine/registries-view.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { entryOf, MAIN, mirrorOf } from '../../support/registries.ts';
import { thrownBy } from '../../support/thrown.ts';

const DIRECTORY = '/etc/containers/registries.conf.d';
const CORRECT = 'Correct the file, which the engines of this node cannot read either; see containers-registries.conf(5)';

/** Reads the view of a node with these files. */
async function viewOf(files: Readonly<Record<string, string>>) {
  const root = await mkdtemp(join(tmpdir(), 'registries-'));
  try {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), text);
    }
    return await readRegistries(linuxHost({ root, log: () => {}, env: {} }));
  } finally {
    await rm(root, { recursive: true });
  }
}

test('an entry is read with all that containers-registries.conf(5) knows, and keys that nobody knows are kept', () => {
  const text = `
unqualified-search-registries = ["registry.access.redhat.com", "docker.io"]

[[registry]]
  prefix = ""
  location = "quay.io/ns/"
  insecure = true
  blocked = true
  mirror-by-digest-only = true
  note = 3

  [[registry.mirror]]
    location = "mirror.example.com/ns/"
    insecure = true
    colour = "red"

[[registry]]
prefix = "*.example.com"

[[registry.mirror]]
location = "m.test"
pull-from-mirror = "tag-only"
`;
  assert.deepEqual(parseRegistries(text, MAIN), {
    entries: [
      entryOf('quay.io/ns', {
        insecure: true,
        blocked: true,
        mirrorByDigestOnly: true,
        mirrors: [mirrorOf('mirror.example.com/ns', { insecure: true, extra: { colour: 'red' } })],
        extra: { note: 3 },
      }),
      entryOf('*.example.com', { location: '', mirrors: [mirrorOf('m.test', { pullFromMirror: 'tag-only' })] }),
    ],
    globals: { 'unqualified-search-registries': ['registry.access.redhat.com', 'docker.io'] },
  });
});

test('a file that no engine could read is refused with every fault and its place', () => {
  const table: readonly (readonly [string, string])[] = [
    ['a = [\n', `${MAIN}:2:1: "Invalid TOML document: invalid value"`],
    ['[[registry]]\nprefix = "quay.io"\n', `${MAIN}: registry.0: has no location`],
    ['[[registry]]\ninsecure = false\n', `${MAIN}: registry.0: has no location`],
    [
      '[[registry]]\nlocation = 3\n[[registry.mirror]]\nlocation = ""\n',
      `${MAIN}: 2 faults\nregistry.0.location: Invalid type: Expected string but received 3\nregistry.0.mirror.0.location: is empty`,
    ],
  ];
  for (const [text, message] of table) {
    const { code, remedy, ...thrown } = thrownBy(() => parseRegistries(text, MAIN));
    assert.deepEqual({ code, remedy }, { code: 'ERR_REGISTRIES', remedy: CORRECT }, text);
    assert.equal(thrown.message, message);
  }
});

test('version 1 of the format is refused, and its empty tables are not taken for it', () => {
  assert.deepEqual(
    thrownBy(() => parseRegistries("[registries.search]\nregistries = ['docker.io']\n", MAIN)),
    {
      code: 'ERR_REGISTRIES',
      message: `${MAIN} is written in version 1 of its format, which has no mirrors`,
      remedy: 'Convert it to version 2, with [[registry]] tables and unqualified-search-registries; see containers-registries.conf(5)',
    },
  );
  assert.deepEqual(parseRegistries('[registries.block]\nregistries = []\n', MAIN).entries, []);
});

test('a node without any file has an empty view', async () => {
  assert.deepEqual(await viewOf({}), { entries: [], globals: {} });
});

test('drop-ins are merged in the order of their names as engines do, without ours and what is no .conf', async () => {
  const view = await viewOf({
    [MAIN]:
      'short-name-mode = "permissive"\nunqualified-search-registries = ["a.test"]\n[aliases]\none = "a.test/one"\ntwo = "a.test/two"\n' +
      '[[registry]]\nlocation = "quay.io"\n[[registry.mirror]]\nlocation = "m1.test"\n[[registry]]\nlocation = "main.test"\n',
    [`${DIRECTORY}/90-b.conf`]: '[[registry]]\nlocation = "quay.io"\ninsecure = true\n',
    [`${DIRECTORY}/10-a.conf`]:
      'unqualified-search-registries = []\n[aliases]\ntwo = "b.test/two"\n[[registry]]\nlocation = "quay.io"\n[[registry]]\nlocation = "ten.test"\n',
    [`${DIRECTORY}/50-prestage.conf`]: '[[registry]]\nlocation = "ours.test"\n',
    [`${DIRECTORY}/README`]: 'this is no TOML',
    [`${DIRECTORY}/folder.conf/x.conf`]: 'nor this',
  });
  assert.deepEqual(view, {
    entries: [
      entryOf('main.test'),
      entryOf('quay.io', { insecure: true, file: `${DIRECTORY}/90-b.conf` }),
      entryOf('ten.test', { file: `${DIRECTORY}/10-a.conf` }),
    ],
    globals: {
      'short-name-mode': 'permissive',
      'unqualified-search-registries': [],
      aliases: { one: 'a.test/one', two: 'b.test/two' },
    },
  });
});

test('the faults of all files are told at once', async () => {
  const files = { [MAIN]: '[[registry]]\n', [`${DIRECTORY}/10-a.conf`]: '[[registry]]\nlocation = 1\n', [`${DIRECTORY}/20-b.conf`]: '' };
  await assert.rejects(viewOf(files), (error) => {
    assert.deepEqual(errorRecord(error), {
      code: 'ERR_REGISTRIES',
      message: `${MAIN}: registry.0: has no location\n${DIRECTORY}/10-a.conf: registry.0.location: Invalid type: Expected string but received 1`,
      remedy: CORRECT,
    });
    return true;
  });
});

test('a file of the root user is named, because podman then reads none in /etc', async () => {
  assert.deepEqual(await viewOf({ '/root/.config/containers/registries.conf': '' }), {
    entries: [],
    globals: {},
    shadowedBy: '/root/.config/containers/registries.conf',
  });
});

test('a prefix applies to what goes on behind it with a separator, a wildcard to hosts of its domain', () => {
  const table: readonly (readonly [string, string, number | undefined])[] = [
    ['quay.io/a', 'quay.io', 7],
    ['quay.io/a', 'quay.io/a', 9],
    ['quay.io/ab', 'quay.io/a', undefined],
    ['quay.io/a:tag', 'quay.io/a', 9],
    ['quay.io/a@sha256:0', 'quay.io/a', 9],
    ['quay.io:443/a', 'quay.io', 7],
    ['quay.io', 'quay.io/a', undefined],
    ['a.b.example.com/r', '*.example.com', 15],
    ['example.com/r', '*.example.com', undefined],
    ['a.example.community/r', '*.example.com', undefined],
    ['quay.io/a.example.com', '*.example.com', undefined],
  ];
  for (const [name, prefix, length] of table) assert.equal(matchLength(name, prefix), length, `${prefix} for ${name}`);
});

test('the longest prefix decides, and what it says goes on with the rest of the name', () => {
  const [wide, narrow] = [entryOf('quay.io', { location: 'm.test/q' }), entryOf('quay.io/a')];
  const wildcard = entryOf('*.example.com', { location: '' });
  const entries = [wide, narrow, wildcard];
  assert.deepEqual(governingEntry(entries, 'quay.io/a/b'), narrow);
  assert.deepEqual(governingEntry(entries, 'quay.io/b'), wide);
  assert.equal(governingEntry(entries, 'docker.io/library/b'), undefined);
  assert.equal(relocate('quay.io/b/c', wide), 'm.test/q/b/c');
  assert.equal(relocate('x.example.com/c', wildcard), 'x.example.com/c');
  assert.equal(relocate('x.example.com/c', { prefix: '*.example.com', location: 'm.test' }), 'm.test/c');
});
