/**
 * Builds the executable: `node build.mjs [--arch x64|arm64] [--if-stale]` -> dist/prestage-agent-linux-ARCH, and of all
 * executables prestage-agent.sbom.json, LICENSES.txt, SHA256SUMS.
 *
 * esbuild makes one CommonJS file of agent/; pkg's SEA pipeline puts it into the Node that package.json names, taken from the
 * npm package node-linux-ARCH. The same sources, packages and binutils give the same bytes.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { architectures, cache, digestOf, nodeVersion, top } from './build/tree.mjs';

const dist = join(top, 'dist');
/** What is given away beside the executables. */
const PAPERS = ['prestage-agent.sbom.json', 'LICENSES.txt'];
/** What decides about the bytes besides the code. */
const RECIPE = ['build/executable.mjs', 'build/packages.mjs', 'build/sbom.mjs', 'build/licences.mjs', 'package.json', 'package-lock.json'];
const { values } = parseArgs({ options: { arch: { type: 'string', default: 'x64' }, 'if-stale': { type: 'boolean', default: false } } });

if (!architectures.includes(values.arch)) fail(`--arch is ${values.arch}; it can be ${architectures.join(' or ')}`);
// The blob's layout belongs to one exact Node version: the Node that writes it must be the one that reads it.
if (process.version !== `v${nodeVersion}`)
  fail(`this Node is ${process.version}, the build needs v${nodeVersion}: run it as npm run build`);
mkdirSync(dist, { recursive: true });
mkdirSync(cache, { recursive: true });
const scratch = mkdtempSync(join(cache, 'build-'));
try {
  await build(values.arch, values['if-stale']);
} catch (error) {
  // The tools have printed the details (esbuild with its own frames of code).
  process.stderr.write(`build: ${error.message.split('\n')[0]}\n`);
  process.exitCode = 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

async function build(arch, onlyIfStale) {
  // Loaded late: the checks above must speak before a wrong Node stumbles over TypeScript.
  const { bundle } = await import('./build/bundle.mjs');
  const { unpackedNode, zlibAddon } = await import('./build/node.mjs');
  const { executable } = await import('./build/executable.mjs');

  const nodePackage = unpackedNode(arch);
  const { code, inputs } = await bundle(zlibAddon(arch, nodePackage, scratch));
  const output = join(dist, `prestage-agent-linux-${arch}`);
  const outputs = [output, ...PAPERS.map((name) => join(dist, name))];
  const stamp = join(cache, `built-${arch}`);
  const made = [code, nodeVersion, process.env.SOURCE_DATE_EPOCH ?? '', ...RECIPE.map((path) => readFileSync(join(top, path)))].map(
    digestOf,
  );
  const stampNow = () => `${[...made, ...outputs.map((path) => digestOf(readFileSync(path)))].join(' ')}\n`;
  if (onlyIfStale && [...outputs, stamp].every((path) => existsSync(path)) && readFileSync(stamp, 'utf8') === stampNow()) return;

  await writePapers(inputs, nodePackage);
  renameSync(await executable({ arch, node: join(nodePackage, 'bin/node'), code, scratch }), output);
  const bytes = readFileSync(output);
  writeFileSync(stamp, stampNow());
  writeSums();
  process.stdout.write(`dist/prestage-agent-linux-${arch}: ${megabytes(bytes)}, of that code ${megabytes(code)}, on Node ${nodeVersion}\n`);
}

async function writePapers(inputs, nodePackage) {
  const { addonsZlib, bundledPackages, nodesLibraries } = await import('./build/packages.mjs');
  const { sbom } = await import('./build/sbom.mjs');
  const { licences } = await import('./build/licences.mjs');
  const parts = { packages: bundledPackages(inputs), zlib: addonsZlib(), libraries: nodesLibraries() };
  const [sbomName, licencesName] = PAPERS;
  replace(sbomName, sbom(parts));
  replace(licencesName, licences({ ...parts, nodePackage }));
}

function writeSums() {
  const names = readdirSync(dist).filter((name) => /^prestage-agent-linux-[a-z0-9]+$/.test(name) || PAPERS.includes(name));
  const lines = names.sort().map((name) => `${digestOf(readFileSync(join(dist, name)))}  ${name}\n`);
  replace('SHA256SUMS', lines.join(''));
}

/** Whoever reads dist at this moment finds the old file or the new one. */
function replace(name, content) {
  const whole = join(scratch, name);
  writeFileSync(whole, content);
  renameSync(whole, join(dist, name));
}

function megabytes(content) {
  return `${(content.length / 1e6).toFixed(1)} MB`;
}

function fail(message) {
  process.stderr.write(`build: ${message}\n`);
  process.exit(1);
}
