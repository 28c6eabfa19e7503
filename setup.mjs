/**
 * Installs what this project needs on a bare Debian 12 or Fedora/RHEL machine: `node setup.mjs [check|build|test]...`
 * (no word: everything). It prints first what it will install, and does nothing where all is there.
 *
 * Runs on the system's Node (20.11 or later) and imports nothing but Node's own modules. `engines` in package.json is about the rest, which runs on
 * a Node that is itself an npm package.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const top = import.meta.dirname;

/**
 * System programs: `file` is looked for on PATH and in the sbin directories, or is an absolute path; `apt` and `dnf` name its
 * package; `without` says what is left out where it is missing.
 */
const PROGRAMS = [
  { use: 'build', file: 'python3', apt: 'python3', dnf: 'python3', without: 'the addon zlib-sync cannot be compiled' },
  { use: 'build', file: 'make', apt: 'make', dnf: 'make', without: 'the addon zlib-sync cannot be compiled' },
  { use: 'build', file: 'g++', apt: 'g++', dnf: 'gcc-c++', without: 'the addon zlib-sync cannot be compiled' },
  { use: 'build', file: 'strip', apt: 'binutils', dnf: 'binutils', without: 'no executable can be built' },
  {
    use: 'test',
    file: 'aarch64-linux-gnu-g++',
    apt: 'g++-aarch64-linux-gnu',
    dnf: 'gcc-c++-aarch64-linux-gnu',
    without: 'no arm64 executable can be built',
  },
  {
    use: 'test',
    file: 'aarch64-linux-gnu-strip',
    apt: 'binutils-aarch64-linux-gnu',
    dnf: 'binutils-aarch64-linux-gnu',
    without: 'no arm64 executable can be built',
  },
  { use: 'test', file: 'podman', apt: 'podman', dnf: 'podman', without: 'loaded images cannot be tried' },
  { use: 'test', file: 'skopeo', apt: 'skopeo', dnf: 'skopeo', without: 'no image can be loaded' },
  { use: 'test', file: 'crun', apt: 'crun', dnf: 'crun', without: 'loaded images cannot be run' },
  {
    use: 'test',
    file: 'docker-registry',
    alternative: 'registry',
    apt: 'docker-registry',
    dnf: 'docker-distribution',
    without: 'registries cannot be tried',
  },
  { use: 'test', file: 'nginx', apt: 'nginx-light', dnf: 'nginx', without: 'fetch cannot be tried with a real web server' },
  { use: 'test', file: 'openssl', apt: 'openssl', dnf: 'openssl', without: 'registries with certificates cannot be tried' },
  { use: 'test', file: 'mkfs.xfs', apt: 'xfsprogs', dnf: 'xfsprogs', without: 'no data partition can be made' },
  { use: 'test', file: 'mkfs.ext4', apt: 'e2fsprogs', dnf: 'e2fsprogs', without: 'a partition with another file system cannot be tried' },
  { use: 'test', file: 'sgdisk', apt: 'gdisk', dnf: 'gdisk', without: 'no data partition can be made' },
  { use: 'test', file: 'losetup', apt: 'mount', dnf: 'util-linux', without: 'no disk image can be attached' },
  { use: 'test', file: 'lsblk', apt: 'util-linux', dnf: 'util-linux-core', without: 'no partition can be found' },
  { use: 'test', file: 'mksquashfs', apt: 'squashfs-tools', dnf: 'squashfs-tools', without: 'no store image can be made' },
  { use: 'test', file: 'veritysetup', apt: 'cryptsetup-bin', dnf: 'veritysetup', without: 'no store image gets its hash tree' },
  { use: 'test', file: 'script', apt: 'bsdutils', dnf: 'util-linux-script', without: 'questions on a terminal cannot be tried' },
  { use: 'test', file: 'xorriso', apt: 'xorriso', dnf: 'xorriso', without: 'no ISO image can be made' },
  { use: 'test', file: 'debugfs', apt: 'e2fsprogs', dnf: 'e2fsprogs', without: 'no disk image can be made without root' },
  { use: 'test', file: 'setfattr', apt: 'attr', dnf: 'attr', without: 'images with extended attributes cannot be made' },
  { use: 'test', file: 'jq', apt: 'jq', dnf: 'jq', without: 'scripts that RHCOS runs with jq cannot be tried' },
  {
    use: 'test',
    file: 'ignition-validate',
    alternative: '/usr/libexec/ignition-validate',
    apt: 'ignition',
    dnf: 'ignition-validate',
    without: 'rendered ignition is not tried',
  },
  { use: 'test', file: 'systemd-analyze', apt: 'systemd', dnf: 'systemd', without: 'units are not verified' },
  { use: 'test', file: 'systemd-nspawn', apt: 'systemd-container', dnf: 'systemd-container', without: 'no machine can be booted' },
  { use: 'test', file: 'mmdebstrap', apt: 'mmdebstrap', dnf: 'mmdebstrap', without: 'no machine can be booted' },
  { use: 'test', file: 'ip', apt: 'iproute2', dnf: 'iproute', without: 'no network can be cut off' },
  { use: 'test', file: 'ps', apt: 'procps', dnf: 'procps-ng', without: 'memory is not measured' },
  { use: 'test', file: 'faketime', apt: 'faketime', dnf: 'libfaketime', without: 'a wrong clock cannot be tried' },
];

const USES = ['check', 'build', 'test'];

main(process.argv.slice(2));

function main(words) {
  const unknown = words.filter((word) => !USES.includes(word));
  if (unknown.length > 0) fail(`setup.mjs knows ${USES.join(', ')}, not ${unknown.join(', ')}`);
  const uses = new Set(words.length === 0 || words.includes('test') ? USES : words);

  const missing = PROGRAMS.filter((program) => uses.has(program.use) && !isThere(program));
  const manager = ['apt-get', 'dnf', 'microdnf'].find((file) => onPath(file));
  const canInstall = missing.length > 0 && manager !== undefined && process.getuid() === 0;
  const packages = canInstall ? [...new Set(missing.map((program) => program[manager === 'apt-get' ? 'apt' : 'dnf']))] : [];
  const stale = stalePackages();
  const needsAddon = uses.has('build');
  const compiles = needsAddon && (stale.length > 0 || !addonLoads());

  announce({ packages, manager, stale, compiles });
  if (packages.length > 0) installSystemPackages(manager, packages);
  if (stale.length > 0) installNpmPackages();
  if (needsAddon && (compiles || !addonLoads())) compileAddon();
  reportMissing(
    missing.filter((program) => !isThere(program)),
    canInstall,
  );
}

function announce({ packages, manager, stale, compiles }) {
  const lines = [
    ...(packages.length > 0 ? [`system packages with ${manager}: ${packages.join(' ')}`] : []),
    ...(stale.length > 0 ? [`npm packages of package-lock.json (${stale.length} are missing or differ: ${some(stale)})`] : []),
    ...(compiles ? ["the addon zlib-sync, compiled for the project's own Node"] : []),
  ];
  if (lines.length > 0) print(`This installs:\n${lines.map((line) => `  ${line}\n`).join('')}`);
}

/** Paths in package-lock.json that node_modules does not hold in that version. Optional packages of other machines may be absent. */
function stalePackages() {
  const wanted = readJson(join(top, 'package-lock.json')).packages;
  const ownNode = `node_modules/node-linux-${process.arch}`;
  return Object.keys(wanted).filter((path) => {
    if (path === '') return false;
    const { version, optional, devOptional } = wanted[path];
    const installed = join(top, path, 'package.json');
    if (!existsSync(installed)) return path === ownNode || !(optional || devOptional);
    return readJson(installed).version !== version;
  });
}

function installNpmPackages() {
  // No scripts here: npm would compile zlib-sync for the Node that runs npm instead of the project's own.
  run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], 'npm could not install the packages of package-lock.json');
  const still = stalePackages();
  if (still.length > 0) fail(`after npm ci these packages are still missing or differ from package-lock.json: ${some(still)}`);
}

function addonLoads() {
  const node = join(top, 'node_modules/.bin/node');
  return existsSync(node) && spawnSync(node, ['-e', "require('zlib-sync')"], { cwd: top, stdio: 'ignore' }).status === 0;
}

function compileAddon() {
  // The user's own npm settings may name the headers of another Node.
  const nodedir = join(top, `node_modules/node-linux-${process.arch}`);
  run('npm', ['rebuild', 'zlib-sync', '--foreground-scripts=false'], 'the addon zlib-sync could not be compiled', {
    npm_config_nodedir: nodedir,
  });
  if (!addonLoads())
    fail("the addon zlib-sync was compiled but the project's own Node cannot load it: remove node_modules and run this again");
}

function installSystemPackages(manager, packages) {
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  if (manager === 'apt-get') {
    // A bare machine has no lists of packages, and old lists name versions that are gone. Where the update fails the install says why.
    attempt(manager, ['-q', 'update'], env);
    attempt(manager, ['-q', '-y', '--no-install-recommends', 'install', ...packages], env);
    return;
  }
  // One at a time: dnf installs nothing at all where one name is unknown, and RHEL has fewer packages than Fedora.
  for (const name of packages) attempt(manager, ['-y', 'install', name], env);
}

function reportMissing(missing, triedToInstall) {
  if (missing.length === 0) return;
  const why = triedToInstall ? 'could not be installed' : 'are missing, and installing them takes root and apt-get or dnf';
  print(`These programs ${why}:\n${missing.map(({ file, without }) => `  ${file}: ${without}\n`).join('')}`);
}

function isThere({ file, alternative }) {
  return onPath(file) || (alternative !== undefined && onPath(alternative));
}

function onPath(file) {
  const candidates = file.startsWith('/')
    ? [file]
    : [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'].map((directory) => join(directory, file));
  return candidates.some((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function attempt(command, args, env) {
  return spawnSync(command, args, { cwd: top, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...env } });
}

function run(command, args, complaint, env = {}) {
  // The packages run on the project's own Node. A user's engine-strict would hold them to the Node that runs npm.
  const settings = { npm_config_loglevel: 'error', npm_config_engine_strict: 'false' };
  const { status, error } = attempt(command, args, { ...settings, ...env });
  if (status !== 0) fail(`${complaint}: ${command} ${args.join(' ')} ended with ${error?.message ?? status}`);
}

function some(names) {
  const short = names.map((name) => name.replace(/^.*node_modules\//, ''));
  return short.length <= 5 ? short.join(', ') : `${short.slice(0, 5).join(', ')}…`;
}

function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'));
}

function print(text) {
  process.stdout.write(text);
}

function fail(message) {
  process.stderr.write(`setup: ${message}\n`);
  process.exit(1);
}
