import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { execOnLinux } from '../../../agent/host/exec.ts';
import { atMost, type ElfNeeds, readElf } from '../../support/elf.ts';
import { builtExecutable } from '../../support/executable.ts';

/** What RHEL 8 has in its minimal installation: glibc 2.28, and the libstdc++ of gcc 8. */
const GLIBC_LIBRARIES = ['libc.so.6', 'libdl.so.2', 'libm.so.6', 'libpthread.so.0', 'librt.so.1'];
const COMPILER_LIBRARIES = ['libgcc_s.so.1', 'libstdc++.so.6'];
const HIGHEST: Readonly<Record<string, string>> = { GLIBC: '2.28', GLIBCXX: '3.4.25', CXXABI: '1.3.11', GCC: '8.0' };
/** Node runs the code that a blob carries only where this mark ends in 1. */
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:';

/** The addon in the code, or, escaped once more, in the code of the worker. */
const CARRIED_ADDON = /Buffer\.from\(\\?"([A-Za-z0-9+/=]+)\\?", \\?"base64\\?"\), sha256: \\?"([0-9a-f]{64})\\?"/;

const targets = [
  { arch: 'x64', machine: 'Advanced Micro Devices X86-64', loader: 'ld-linux-x86-64.so.2' },
  { arch: 'arm64', machine: 'AArch64', loader: 'ld-linux-aarch64.so.1' },
] as const;

for (const { arch, machine, loader } of targets) {
  describe(`the ${arch} executable`, () => {
    let path = '';
    let bytes = Buffer.alloc(0);
    let scratch = '';
    before(async () => {
      path = await builtExecutable(arch);
      bytes = await readFile(path);
      scratch = await mkdtemp(join(tmpdir(), 'executable-test-'));
    });
    after(() => rm(scratch, { recursive: true, force: true }));

    test('starts on what a minimal RHEL 8 has: glibc 2.28 and its libstdc++', async () => {
      assertRunsOnRhel8(await readElf(path), machine, loader);
    });

    test('carries the code, and the fuse that makes Node run it is set', () => {
      assert.equal(bytes.includes(`${FUSE}1`), true);
      assert.equal(bytes.includes(`${FUSE}0`), false);
      assert.equal(bytes.includes('// agent/main.ts'), true);
    });

    test('carries the addon of its own processor, with the sha256 that the code expects', async () => {
      const carried = CARRIED_ADDON.exec(bytes.toString('latin1'));
      const addon = Buffer.from(carried?.[1] ?? '', 'base64');
      assert.equal(createHash('sha256').update(addon).digest('hex'), carried?.[2]);
      const file = join(scratch, 'addon.node');
      await writeFile(file, addon);
      assertRunsOnRhel8(await readElf(file), machine, loader);
    });

    test('says nothing of the tree that it was built in', () => {
      assert.equal(bytes.includes(process.cwd()), false);
    });

    test('has its sha256 in SHA256SUMS, as sha256sum -c reads it', async () => {
      const line = `${createHash('sha256').update(bytes).digest('hex')}  ${basename(path)}`;
      assert.ok((await readFile('dist/SHA256SUMS', 'utf8')).split('\n').includes(line));
    });
  });
}

test('the arm64 executable can be mapped by a kernel with pages of 64 KiB, as OpenShift offers there', async () => {
  assert.equal((await readElf(await builtExecutable('arm64'))).fits64KiBPages, true);
});

test('the executable says its version and its Node from any folder, with an empty environment', async () => {
  const path = await builtExecutable();
  const result = await execOnLinux('env', ['-i', path, '--version'], { cwd: '/' });
  const { version }: { version: string } = JSON.parse(await readFile('package.json', 'utf8'));
  assert.deepEqual(result, { exitCode: 0, stdout: `prestage-agent ${version} (Node 24.21.0, x64)`, stderr: '' });
});

test('a build whose sources did not change leaves all files alone, and a full build gives the same bytes', async () => {
  const path = await builtExecutable();
  const names = [basename(path), 'SHA256SUMS', 'LICENSES.txt', 'prestage-agent.sbom.json'];
  const sumOf = async () => {
    const sum = createHash('sha256');
    for (const name of names) sum.update(await readFile(join('dist', name)));
    return sum.digest('hex');
  };
  const first = await sumOf();
  const again = await execOnLinux(process.execPath, ['build.mjs', '--if-stale']);
  assert.deepEqual(again, { exitCode: 0, stdout: '', stderr: '' });
  await execOnLinux(process.execPath, ['build.mjs']);
  assert.equal(await sumOf(), first);
});

test('a build for a processor that Node does not name is refused', async () => {
  assert.deepEqual(await execOnLinux(process.execPath, ['build.mjs', '--arch', 'mips']), {
    exitCode: 1,
    stdout: '',
    stderr: 'build: --arch is mips; it can be x64 or arm64',
  });
});

function assertRunsOnRhel8(elf: ElfNeeds, machine: string, loader: string): void {
  assert.equal(elf.machine, machine);
  const allowed = [...GLIBC_LIBRARIES, ...COMPILER_LIBRARIES, loader];
  assert.deepEqual(
    elf.libraries.filter((library) => !allowed.includes(library)),
    [],
  );
  const tooNew = Object.entries(elf.versions).filter(([kind, version]) => !atMost(version, HIGHEST[kind] ?? ''));
  assert.deepEqual(tooNew, []);
  assert.ok(elf.libraries.length > 0 && elf.versions.GLIBC !== undefined, 'readelf gave nothing to judge');
}
