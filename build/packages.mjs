import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { nodeVersion, top } from './tree.mjs';

/** Compiled into the addon: no bundler sees them. */
const COMPILED = ['node_modules/nan', 'node_modules/zlib-sync'];
const ZLIB = 'node_modules/zlib-sync/deps/zlib/zlib.h';
/** Members of process.versions that number an interface or a table of data, not a library. */
const NO_LIBRARY = ['node', 'modules', 'napi', 'cldr', 'tz', 'unicode'];

/**
 * The npm packages that the executable is made of besides Node.
 * @param inputs paths of files that the bundler read, relative to the top of the tree
 * @returns {{ directory: string, name: string, version: string, licenceTexts: string[] }[]} by name, then version
 */
export function bundledPackages(inputs) {
  const directories = new Set(COMPILED);
  for (const input of inputs) {
    const directory = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(input)?.[0];
    if (directory !== undefined) directories.add(directory);
  }
  return [...directories].map(describe).sort((a, b) => compare(`${a.name} ${a.version}`, `${b.name} ${b.version}`));
}

/** zlib as the addon carries it; its licence stands in the comment at the top of zlib.h. */
export function addonsZlib() {
  const header = readFileSync(join(top, ZLIB), 'utf8');
  const version = /#define ZLIB_VERSION "([^"]+)"/.exec(header)?.[1];
  const licence = /^\/\*([\s\S]*?)\*\//.exec(header)?.[1];
  if (version === undefined || licence === undefined) throw new Error(`${ZLIB} does not begin as zlib.h does`);
  return { name: 'zlib', version, licenceTexts: [licence] };
}

/** The libraries inside Node. The build runs on the Node that it packs, so this one's answer is true for both processors. */
export function nodesLibraries() {
  if (process.version !== `v${nodeVersion}`) throw new Error(`this Node is ${process.version}, not v${nodeVersion}`);
  return Object.entries(process.versions)
    .filter(([name, version]) => version !== undefined && version !== '' && !NO_LIBRARY.includes(name))
    .map(([name, version]) => ({ name, version }))
    .sort((a, b) => compare(a.name, b.name));
}

export function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

function describe(directory) {
  const { name, version } = JSON.parse(readFileSync(join(top, directory, 'package.json'), 'utf8'));
  const files = readdirSync(join(top, directory)).filter((file) => /^(licen[cs]e|copying|notice)(\.|-|$)/i.test(file));
  if (files.length === 0) throw new Error(`${name}@${version} carries no licence text: it cannot be given away in the executable`);
  return { directory, name, version, licenceTexts: files.sort(compare).map((file) => readFileSync(join(top, directory, file), 'utf8')) };
}
