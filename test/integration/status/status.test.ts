import assert from 'node:assert/strict';
import { chmod, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';
import { parse } from 'yaml';
import { exitCodes } from '../../../agent/model/errors.ts';
import { sealRecord } from '../../../agent/model/seal.ts';
import type { StatusReport } from '../../../agent/status/assess.ts';
import { type AgentResult, makeSandbox, type Sandbox, waitFor } from '../../support/agent.ts';
import { TOP } from '../../support/cache.ts';
import { archivePath, copyFolder, makeTinyBundle, type TinyBundle } from '../../support/tiny-bundle.ts';

const SLOW = 'echo "$*" >>"$LOG"; sleep 2; exec "$REAL" "$@"';
const NOBODY = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];

describe('status', () => {
  let home: Sandbox;
  let bundle: TinyBundle;
  let sandbox: Sandbox;
  let isValid: (report: unknown) => string;
  before(async () => {
    home = await makeSandbox();
    bundle = await makeTinyBundle(home.work);
    const ajv = addFormats.default(new Ajv({ allErrors: true }));
    const validate = ajv.compile(JSON.parse(await readFile(join(TOP, 'docs/status.schema.json'), 'utf8')));
    isValid = (report) => (validate(report) ? 'valid' : ajv.errorsText(validate.errors));
  });
  beforeEach(async () => {
    await sandbox?.[Symbol.asyncDispose]();
    sandbox = await makeSandbox();
  });
  after(async () => {
    await sandbox[Symbol.asyncDispose]();
    await home[Symbol.asyncDispose]();
  });

  const run = async (...args: readonly string[]) => await sandbox.run(['--bundle', bundle.directory, ...args]);
  const startLoading = async () => {
    await sandbox.wrap('skopeo', SLOW);
    const started = sandbox.start(['run', '--stage', 'discovery', '--bundle', bundle.directory, '--parallel', '1']);
    await waitFor('skopeo', async () => (await sandbox.log())[0]);
    return started;
  };
  /** The JSON, valid by its schema, and equal to the YAML; its exit code is that of the command. */
  const status = async (): Promise<StatusReport['status']> => {
    const json = await sandbox.agent(['status', '--output', 'json']);
    const report: StatusReport = JSON.parse(json.stdout);
    assert.deepEqual([isValid(report), json.exitCode], ['valid', report.status.exitCode]);
    return report.status;
  };
  const inBrief = ({ readiness, exitCode, counts }: StatusReport['status']) => [
    readiness,
    exitCode,
    Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0)),
  ];

  it('of a machine on which nothing ran says so', async () => {
    assert.deepEqual(inBrief(await status()), ['never-run', exitCodes.unfinished, {}]);
    const text = await sandbox.agent(['status']);
    assert.deepEqual(text.stdout.split('\n'), [
      'never-run: no run has left a record on this machine',
      'next:      Start a run: prestage-agent run --stage discovery, or check the units: systemctl status "prestage-agent*"',
      '',
    ]);
  });

  it('of a run that is over tells what took it its time', async () => {
    assert.equal((await run('--stage', 'discovery')).exitCode, 0);
    const { durationMs = 0, timeline } = (await status()).run ?? {};
    const names = ['starting', 'reading-bundle', 'loading', 'syncing'];
    assert.deepEqual(
      timeline?.phases.map(({ name }) => name),
      names,
    );
    // One phase begins where another one ends.
    assert.deepEqual(
      timeline?.phases.slice(1).map(({ startMs }) => startMs),
      timeline?.phases.slice(0, -1).map(({ endMs }) => endMs),
    );
    assert.ok((timeline?.phases.at(-1)?.endMs ?? 0) <= durationMs + 1);
    const loaded = timeline?.steps.find(({ name }) => name === 'load-image');
    assert.ok(
      loaded !== undefined && loaded.count === 3 && loaded.endMs > loaded.startMs && loaded.endMs <= durationMs,
      JSON.stringify(timeline),
    );
  });

  it('of a run that goes on tells its process, phase and images', async () => {
    const started = await startLoading();
    const seen = await waitFor('the live state', async () => {
      const found = await status();
      return found.counts.loading > 0 ? found : undefined;
    });
    assert.deepEqual([seen.readiness, seen.exitCode], ['running', exitCodes.unfinished]);
    // The image that is copied, and those that are unpacked ahead.
    assert.deepEqual([seen.counts.loading + seen.counts.pending, seen.counts.loaded], [3, 0]);
    assert.equal(seen.reason, `a run is in progress (process ${started.pid}, phase loading)`);
    assert.equal((await started.ended).exitCode, 0);
  });

  it('of a complete run is ready, and tells all that an engineer asks', async () => {
    const { state } = await run();
    const found = await status();
    assert.deepEqual(inBrief(found), ['ready', 0, { loaded: 3 }]);
    assert.deepEqual(
      [found.run?.delivery, found.run?.payload, found.run?.source],
      [
        { kind: 'extract', reason: 'the archives payload is loaded into containers-storage' },
        'archives',
        { kind: 'directory', path: bundle.directory },
      ],
    );
    const text = (await sandbox.agent(['status'])).stdout.split('\n');
    const [, size = ''] = /^archives: {2}(.+) of/.exec(text.find((line) => line.startsWith('archives:')) ?? '') ?? [];
    const took = text.find((line) => line.startsWith('last run:')) ?? '';
    assert.match(took, new RegExp(`^last run: {2}${state.startedAt} \\([a-z0-9 ]+\\), took [0-9.]+ s, agent [0-9.]+$`));
    assert.deepEqual(text, [
      'ready: all 3 images are in storage',
      'next:      Nothing to do',
      'images:    3 loaded',
      `archives:  ${size} of ${size} read`,
      'delivery:  extract (the archives payload is loaded into containers-storage)',
      took,
      'stage:     discovery (policy closed)',
      `source:    directory ${bundle.directory}`,
      'payload:   archives',
      `storage:   ${sandbox.graphroot}`,
      '',
    ]);
    const all = (await sandbox.agent(['status', '--all'])).stdout.split('\n');
    assert.deepEqual(all.slice(-4), [...bundle.images.map(({ reference }) => `  loaded   ${reference}`), '']);
  });

  it('answers the same in YAML as in JSON', async () => {
    await run();
    const yaml = await sandbox.agent(['status', '--output', 'yaml']);
    assert.deepEqual(parse(yaml.stdout), JSON.parse((await sandbox.agent(['status', '-o', 'json'])).stdout));
  });

  it('of a partial run names the image with reason and remedy', async () => {
    const directory = await copyFolder(bundle, join(sandbox.work, 'lacking'));
    const [, lacking] = bundle.images.map(({ reference }) => reference);
    await rm(archivePath(directory, lacking ?? ''));
    await sandbox.run(['--bundle', directory]);
    const found = await status();
    assert.deepEqual(inBrief(found), ['partial', exitCodes.partial, { loaded: 2, failed: 1 }]);
    assert.deepEqual(
      [found.images[1]?.reference, found.images[1]?.error, found.nextStep],
      [lacking, found.lastError, found.lastError?.remedy],
    );
    const { stdout } = await sandbox.agent(['status']);
    assert.ok(stdout.endsWith(`  failed ${lacking}\n    ${found.images[1]?.reason}\n    ${found.lastError?.code}\n`), stdout);
    const all = (await sandbox.agent(['status', '--all'])).stdout;
    assert.ok(all.includes(`  failed   ${lacking}\n           ${found.images[1]?.reason}\n           next: ${found.nextStep}\n`), all);
  });

  it('of a failed run tells the error that ended it', async () => {
    await sandbox.run(['--bundle', join(sandbox.work, 'nowhere')]);
    const found = await status();
    assert.equal(found.readiness, 'failed');
    assert.equal(found.reason, found.lastError?.message);
    assert.match(found.reason, /nowhere/);
  });

  it('of a killed run says interrupted, by the process that is gone', async () => {
    const started = await startLoading();
    started.process.kill('SIGKILL');
    await started.ended;
    const found = await status();
    assert.deepEqual([found.readiness, found.exitCode], ['interrupted', exitCodes.interrupted]);
    assert.match(
      found.reason,
      new RegExp(`^the run that began at \\S+ ended unexpectedly \\(process ${started.pid} is gone\\) \\(phase loading\\)$`),
    );
    assert.equal(found.nextStep, 'Start it again; it continues from there: prestage-agent run --stage discovery');
  });

  it('sees at once what has vanished from storage or is damaged there', async () => {
    await run();
    await sandbox.podman('rmi', bundle.images[0]?.reference ?? '');
    const found = await status();
    assert.deepEqual(inBrief(found), ['partial', exitCodes.partial, { loaded: 2, missing: 1 }]);
    assert.equal(found.images[0]?.reason, 'it is no longer in storage');
  });

  it('survives a state file that is cut off or is none', async () => {
    await run();
    await rm(join(sandbox.root, 'run'), { recursive: true });
    const whole = await readFile(sandbox.stateFile, 'utf8');
    for (const text of ['', 'no json', whole.slice(0, whole.length / 2), '{"apiVersion":"prestage-agent/v9"}', '\0'.repeat(4096)]) {
      await writeFile(sandbox.stateFile, text);
      assert.deepEqual(inBrief(await status()), ['never-run', exitCodes.unfinished, {}]);
    }
    const { exitCode, state } = await run();
    assert.deepEqual([exitCode, state.outcome], [0, 'complete']);
  });

  it('tells another user than root what could not be looked at, and is not ready for them', async () => {
    await run();
    for (const directory of [sandbox.work, sandbox.root]) await chmod(directory, 0o755);
    await chmod(sandbox.graphroot, 0o700);
    const env = { HOME: '/nonexistent' };
    const json = await sandbox.agent(['status', '--output', 'json'], env, NOBODY);
    const report: StatusReport = JSON.parse(json.stdout);
    assert.deepEqual([isValid(report), json.exitCode], ['valid', exitCodes.unknown]);
    assert.deepEqual(inBrief(report.status), ['unknown', exitCodes.unknown, { loaded: 3 }]);
    const text = await sandbox.agent(['status'], env, NOBODY);
    const lines = text.stdout.split('\n');
    assert.deepEqual(
      [lines.slice(0, 2), lines.filter((line) => /^(storage|not seen):/.test(line))],
      [
        [
          'unknown: no fault was found, but not everything could be checked: containers-storage (this user may not read it)',
          'next:      Run it as root: sudo prestage-agent status',
        ],
        ['not seen:  containers-storage: this user may not read it', `storage:   ${sandbox.graphroot} (as recorded by the run)`],
      ],
    );
  });

  it('tells another user than root that the record of the run could not be read', async () => {
    await run();
    for (const directory of [sandbox.work, sandbox.root]) await chmod(directory, 0o755);
    await chmod(join(sandbox.root, 'run/prestage-agent'), 0o700);
    const { stdout, exitCode } = await sandbox.agent(['status'], { HOME: '/nonexistent' }, NOBODY);
    const lines = [
      'unknown: the record of the last run cannot be read: this user may not read it',
      'next:      Run it as root: sudo prestage-agent status',
      '',
    ];
    assert.deepEqual([exitCode, stdout.split('\n')], [exitCodes.unknown, lines]);
  });

  it('of a disk whose system is not the one that runs looks at its own storage, and at nothing that runs here', async () => {
    const { state } = await run();
    const root = join(sandbox.work, 'moved');
    await rename(sandbox.root, root);
    const other = { ...state, bootId: 'another' };
    await rm(join(root, 'run/prestage-agent'), { recursive: true });
    await writeFile(join(root, 'var/lib/prestage-agent/state.json'), sealRecord(other));
    const of = async () => {
      const { stdout } = await sandbox.agent(['status', '--root', root, '--output', 'json']);
      const { status: found }: StatusReport = JSON.parse(stdout);
      return inBrief(found);
    };
    assert.deepEqual(await of(), ['ready', 0, { loaded: 3 }]);
    await rm(join(root, 'var/lib/containers/storage/overlay-images/images.json'));
    assert.deepEqual(await of(), ['failed', exitCodes.failed, { missing: 3 }]);
    await rename(root, sandbox.root);
  });

  it('--watch shows a run again and again, and ends with it', async () => {
    const started = await startLoading();
    const watched: AgentResult = await sandbox.agent(['status', '--watch']);
    assert.equal((await started.ended).exitCode, 0);
    const heads = watched.stdout.split('\n').filter((line) => /^(running|ready): /.test(line));
    assert.ok(heads.length >= 3, watched.stdout);
    assert.deepEqual(
      [watched.exitCode, heads.at(-1), new Set(heads.slice(0, -1).map((line) => line.split(':')[0]))],
      [0, 'ready: all 3 images are in storage', new Set(['running'])],
    );
  });
});
