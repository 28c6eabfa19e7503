import assert from 'node:assert/strict';
import { access, readFile } from 'node:fs/promises';
import { it } from 'node:test';
import { CAPABILITIES } from '../../../agent/host/systemd.ts';

const text = await readFile('docs/security.md', 'utf8');

it('the tests that hold a promise are there, under the titles that the document gives', async () => {
  const named = [...text.matchAll(/`(test\/[\w/.-]+\.test\.ts)`((?:(?:: |, )"[^"\n]+")*)/g)];
  assert.ok(named.length > 25, `${named.length}`);
  for (const [, path = '', titles = ''] of named) {
    const source = await readFile(path, 'utf8');
    const wanted = [...titles.matchAll(/"([^"]+)"/g)].map(([, title = '']) => title);
    assert.deepEqual(
      wanted.filter((title) => !source.includes(title)),
      [],
      path,
    );
  }
});

it('so is the code', async () => {
  const named = [...text.matchAll(/(?<![\w/`])(agent\/[\w/.-]+\.(?:ts|sh|md))/g)].map(([, path = '']) => path);
  assert.ok(named.length > 10, `${named.length}`);
  for (const path of named) await access(path);
});

it('the capabilities are those of the units, each with what it is for', () => {
  const table = text.slice(text.indexOf('| capability | for |'), text.indexOf("The registry's own unit has"));
  const explained = [...table.matchAll(/`([A-Z_]{4,})`/g)].map(([, name]) => `CAP_${name}`);
  assert.deepEqual(explained.toSorted(), CAPABILITIES.split(' ').toSorted());
});
