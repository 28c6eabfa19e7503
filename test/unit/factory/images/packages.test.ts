import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseCatalog } from '../../../../agent/factory/images/catalog.ts';
import { listPackages, packagesText } from '../../../../agent/factory/images/packages.ts';
import { runHere } from '../../../support/program.ts';

const CATALOG = `schema: olm.package
name: zoo
defaultChannel: stable
---
schema: olm.channel
package: zoo
name: stable
entries: [{name: zoo.v2, replaces: zoo.v1}, {name: zoo.v1}]
---
schema: olm.bundle
package: zoo
name: zoo.v2
image: quay.io/o/zoo:2
properties: [{type: olm.package, value: {packageName: zoo, version: 2.0.0}}]
---
schema: olm.package
name: bare
---
schema: olm.package
name: forked
defaultChannel: stable
---
schema: olm.channel
package: forked
name: stable
entries: [{name: forked.v2}, {name: forked.v1}]
---
schema: olm.package
name: gone
defaultChannel: fast
---
schema: olm.package
name: plain
defaultChannel: stable
---
schema: olm.channel
package: plain
name: stable
entries: [{name: plain.v1}]
`;

const LINES = `bare           (it has no default channel)
forked:stable  (package forked, channel stable has 2 heads: forked.v2, forked.v1)
gone:fast      (the catalog has no channel fast of it)
plain:stable   plain.v1
zoo:stable     2.0.0
`;

test('the packages of a catalog have their default channel and the version at its head, or the reason why not', () => {
  const packages = listPackages(parseCatalog([{ path: 'c.yaml', text: CATALOG }], ['']));
  assert.deepEqual(packages, [
    { package: 'bare', fault: 'it has no default channel' },
    { package: 'forked', defaultChannel: 'stable', fault: 'package forked, channel stable has 2 heads: forked.v2, forked.v1' },
    { package: 'gone', defaultChannel: 'fast', fault: 'the catalog has no channel fast of it' },
    { package: 'plain', defaultChannel: 'stable', version: 'plain.v1' },
    { package: 'zoo', defaultChannel: 'stable', version: '2.0.0' },
  ]);
  assert.equal(packagesText(packages), LINES);
  assert.equal(packagesText([]), '');
});

test('images operators without --package lists them, and reports documents that cannot be read', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'catalog-'));
  try {
    await writeFile(join(folder, 'c.yaml'), `${CATALOG}---\nschema: olm.package\nname: 7\n`);
    const { exitCode, stdout, stderr } = await runHere(['images', 'operators', folder]);
    assert.deepEqual([exitCode, stdout], [0, LINES]);
    assert.match(stderr, /^warning: .*c\.yaml, document 10: .*; the document is skipped$/m);
    assert.match(stderr, /^notice: these are packages, not images: choose some with --package /m);
    const json = JSON.parse((await runHere(['images', 'operators', folder, '--output', 'json'])).stdout);
    assert.deepEqual([json.kind, json.packages.length], ['OperatorPackages', 5]);
  } finally {
    await rm(folder, { recursive: true });
  }
});
