import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildText, contentOf } from '../../../agent/cli/build-command.ts';
import { runProgram } from '../../../agent/cli/program.ts';
import type { Bundle } from '../../../agent/model/bundle.ts';
import { EMPTY_BUNDLE, FULL_BUNDLE } from '../../support/bundle-facts.ts';

/** Runs a command line in this process; data, messages and the exit code. */
async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const written = { out: '', err: '' };
  const signal = new AbortController().signal;
  const exitCode = await runProgram(args, {
    out: { write: (text: string) => (written.out += text) },
    err: { write: (text: string) => (written.err += text) },
    env,
    stop: signal,
    kill: signal,
  });
  return { exitCode, ...written };
}

test('a command line that cannot be built from is refused with every fault, before anything is looked at', async () => {
  const line = [
    'build',
    '--to',
    '',
    '--payload',
    'oci,tar',
    '--jobs',
    '0',
    '--os-image',
    'keep',
    '--architecture',
    'x86-64',
    '--agent',
    'a',
    '',
  ];
  assert.deepEqual(await run(line, { SOURCE_DATE_EPOCH: 'yesterday' }), {
    exitCode: 2,
    out: '',
    err: `error: build cannot start: ${[
      '--from is not given',
      '--to is not given',
      '--payload must be one of store, oci, archives, registry',
      '--architecture is not a GOARCH name, such as amd64',
      '--agent is empty',
      '--os-image must be one of serve, store, both, omit',
      '--jobs is not a number from 1 to 64',
      'SOURCE_DATE_EPOCH is not a number of seconds',
    ].join('; ')}\n  ERR_USAGE; next: Run: prestage-agent build --help\n`,
  });
  assert.match(
    (await run(['build', '--from', 'x', '--to', 'y'], { SOURCE_DATE_EPOCH: '4294967296' })).err,
    /SOURCE_DATE_EPOCH is later than 2106/,
  );
});

test('an input that is none ends in the code of its error, as text and as JSON', async () => {
  const work = await mkdtemp(join(tmpdir(), 'prestage-build-'));
  try {
    const [from, to] = [join(work, 'in'), join(work, 'out')];
    await writeFile(from, 'a file');
    const text = await run(['build', '--from', from, '--to', to]);
    const remedy = 'Give the folder of a pull with --from, and its lists with --list-discovery and --list-installed';
    assert.deepEqual(text, {
      exitCode: 6,
      out: '',
      err: `error: ${from} cannot be read: a part of its path is not a folder\n  ERR_BUILD_INPUT; next: ${remedy}\n`,
    });
    const json = await run(['build', '--from', from, '--to', to, '--output', 'json']);
    assert.deepEqual(JSON.parse(json.err), {
      apiVersion: 'prestage-agent/v1',
      kind: 'Error',
      error: { code: 'ERR_BUILD_INPUT', message: `${from} cannot be read: a part of its path is not a folder`, remedy, exitCode: 6 },
    });
  } finally {
    await rm(work, { recursive: true });
  }
});

test('a report says what was made, what would be made, or that nothing had to be', () => {
  const parts = [
    { id: 'store-installed', state: 'make', outputBytes: 2048, workBytes: 4096 },
    { id: 'oci', state: 'keep', outputBytes: 0, workBytes: 0 },
    { id: 'archives', state: 'make', outputBytes: 1024, workBytes: 0 },
  ] as const;
  const pin = 'sha256 of prestage.json, for ignition: abc\nnext: prestage-agent partition write /b DEVICE';
  assert.equal(
    buildText({ outcome: 'planned', bundle: '/b', parts }),
    'make    store-installed (about 2.0 KiB, 4.0 KiB of work space)\nkeep    oci\nmake    archives (about 1.0 KiB)\nnothing was written',
  );
  assert.equal(
    buildText({ outcome: 'built', bundle: '/b', parts, manifestSha256: 'abc' }),
    `built: /b (made store-installed, archives)\n${pin}`,
  );
  assert.equal(
    buildText({ outcome: 'built', bundle: '/b', parts: [], manifestSha256: 'abc' }),
    `built: /b (made only the manifest)\n${pin}`,
  );
  assert.equal(buildText({ outcome: 'unchanged', bundle: '/b', parts, manifestSha256: 'abc' }), `unchanged: /b is up to date\n${pin}`);
  const osImages = { choice: 'serve', reason: 'asked for', references: ['quay.io/e/os:1', 'quay.io/e/ext:1'], layerBytes: 1024 } as const;
  assert.equal(
    buildText({ outcome: 'planned', bundle: '/b', parts: [], osImages }),
    'operating system: served complete beside the store, 1.0 KiB of layers (asked for): quay.io/e/os:1, quay.io/e/ext:1\nnothing was written',
  );
});

test('a build ends with the images, the payloads with their sizes, the pins and the next command', () => {
  const report = { outcome: 'built', bundle: '/b', parts: [], manifestSha256: 'abc' } as const;
  const executables = ['prestage-agent', 'bin/prestage-agent-linux-arm64'].map((path) => ({
    path,
    sizeBytes: 1024,
    sha256: 'd'.repeat(64),
  }));
  const index = { path: 'oci/index.json', sizeBytes: 1024, sha256: 'e'.repeat(64) };
  const bundle: Bundle = {
    ...EMPTY_BUNDLE,
    stages: FULL_BUNDLE.stages,
    payloads: [{ kind: 'oci', path: 'oci' }],
    files: [index, ...executables],
  };
  assert.equal(
    buildText(report, contentOf(bundle)),
    [
      'built: /b (made only the manifest)',
      `images: ${contentOf(bundle).images} (discovery 1, installed ${FULL_BUNDLE.stages.installed?.images.length})`,
      'payload oci: 1.0 KiB in 1 file',
      'in all: 3.0 KiB in 3 files',
      `sha256 of prestage-agent, for ignition: ${'d'.repeat(64)}`,
      `sha256 of bin/prestage-agent-linux-arm64, for ignition: ${'d'.repeat(64)}`,
      'sha256 of prestage.json, for ignition: abc',
      'next: prestage-agent partition write /b DEVICE',
    ].join('\n'),
  );
  const empty = buildText(report, contentOf(EMPTY_BUNDLE));
  assert.match(empty, /^images: 0$/m);
});

test('verify names each option that cannot be used by its flag', async () => {
  const { exitCode, err } = await run(['verify', 'bundle', '--openshift', 'latest', '--bundle-sha256', 'x']);
  assert.deepEqual(
    [exitCode, err],
    [
      2,
      'error: verify cannot start: --bundle-sha256 is not 64 lower-case hex digits; --openshift is not a release, such as 4.22.1\n  ERR_USAGE; next: Run: prestage-agent verify --help\n',
    ],
  );
});
