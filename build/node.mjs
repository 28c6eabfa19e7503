import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cache, nodeVersion, run, tool, top } from './tree.mjs';

/**
 * zlib-sync's addon for an architecture, stripped. On this machine's own architecture it is the one that the tests load
 * (setup.mjs compiled it); for another one it is compiled here against that Node's headers.
 */
export function zlibAddon(arch, nodePackage, scratch) {
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
    tool('gcc', arch),
    ['-c', '-O3', '-fPIC', '-DPIC', '-w', `-I${join(source, 'deps/config')}`, `-I${zlib}`, ...zlibSources.map((name) => join(zlib, name))],
    scratch,
  );
  const defines = ['NODE_GYP_MODULE_NAME=zlib_sync', 'BUILDING_NODE_EXTENSION', '_FILE_OFFSET_BITS=64', '_LARGEFILE_SOURCE'];
  const flags = ['-shared', '-O3', '-fPIC', '-std=gnu++20', '-fno-rtti', '-fno-exceptions', '-w', ...defines.map((name) => `-D${name}`)];
  const includes = [join(nodePackage, 'include/node'), join(top, 'node_modules/nan'), zlib].map((path) => `-I${path}`);
  const objects = zlibSources.map((name) => name.replace(/\.c$/, '.o'));
  run(tool('g++', arch), [...flags, ...includes, '-o', addon, join(source, 'src/zlib_sync.cc'), ...objects], scratch);
  run(tool('strip', arch), ['--strip-unneeded', addon]);
  return readFileSync(addon);
}

/**
 * The unpacked npm package node-linux-ARCH: the installed one, or, as npm installs no package of another processor, one that
 * `npm pack` fetches and package-lock.json vouches for.
 */
export function unpackedNode(arch) {
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
