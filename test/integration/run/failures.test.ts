import assert from 'node:assert/strict';
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { hexOf } from '../../../agent/model/digest.ts';
import { makeSandbox, type Sandbox, statesOf } from '../../support/agent.ts';
import { assertLoaded, assertNothingLeft, recordedDigests } from '../../support/loaded.ts';
import { copyFolder, makeTinyBundle, repack, type TinyBundle } from '../../support/tiny-bundle.ts';

/** Fails, saying why, as often as there are lines in a file; then it is the real one. */
const FAILS_FIRST = `echo "$*" >>"$LOG"
[ "$(wc -l <"$LOG")" -le "$(cat "$LOG.failures")" ] && { echo 'level=fatal msg="storage is busy"' >&2; exit 1; }
exec "$REAL" "$@"`;

describe('a run in which something fails', () => {
  let home: Sandbox;
  let bundle: TinyBundle;
  let sandbox: Sandbox;
  let directory: string;
  let copies = 0;
  before(async () => {
    home = await makeSandbox();
    bundle = await makeTinyBundle(home.work);
  });
  beforeEach(async () => {
    await sandbox?.[Symbol.asyncDispose]();
    sandbox = await makeSandbox();
    directory = await copyFolder(bundle, join(home.work, `copy-${copies++}`));
  });
  after(async () => {
    await sandbox[Symbol.asyncDispose]();
    await home[Symbol.asyncDispose]();
  });

  const failures = async (count: number) => {
    await sandbox.wrap('skopeo', FAILS_FIRST);
    await writeFile(join(sandbox.work, 'wrapped.log.failures'), String(count));
  };
  const damage = async (reference: string) =>
    await repack(directory, reference, async (layout) => {
      const config = join(
        layout,
        hexOf(bundle.images.find((image) => image.reference === reference)?.instances[0]?.config.digest ?? bundle.base.digest),
      );
      const bytes = await readFile(config);
      bytes[20] = (bytes[20] ?? 0) ^ 1;
      await writeFile(config, bytes);
    });
  const leader = async (): Promise<string> => {
    const plan = await sandbox.agent(['run', '--stage', 'discovery', '--bundle', directory, '--dry-run', '--output', 'json']);
    return JSON.parse(plan.stdout).steps[0].reference;
  };

  it('loads all others, and ends partial with reason and remedy: exit code 3, and 67 where the policy lets the boot go on', async () => {
    const [, , broken] = bundle.images.map(({ reference }) => reference);
    await damage(broken ?? '');
    const closed = await sandbox.run(['--bundle', directory]);
    assert.deepEqual([closed.exitCode, closed.state.outcome], [3, 'partial']);
    const failed = closed.state.images[2];
    assert.deepEqual(
      [failed?.state, failed?.error?.code, failed?.error?.remedy],
      ['failed', 'ERR_ARCHIVE_DIGEST', 'Write the archive again at the factory'],
    );
    assert.equal(failed?.reason, failed?.error?.message);
    assert.match(failed?.reason ?? '', /\.tgz: blob sha256:[0-9a-f]{64} has the digest sha256:[0-9a-f]{64}$/);
    assert.deepEqual(
      statesOf(closed.state).map(([, was]) => was),
      ['loaded', 'loaded', 'failed'],
    );
    await assertLoaded(sandbox, bundle.images.slice(0, 2));
    const open = await sandbox.run(['--bundle', directory, '--policy', 'open']);
    assert.deepEqual([open.exitCode, open.state.outcome], [67, 'partial']);
    const status = await sandbox.agent(['status']);
    assert.equal(status.exitCode, 3);
    assert.match(status.stdout, /^partial: 2 of 3 images are usable; first: quay\.io/);
    assert.match(status.stdout, /next: {6}Write the archive again at the factory/);
    await assertNothingLeft(sandbox);
  });

  it('ends failed where no image could be loaded: exit code 4, and 68 under the policy open', async () => {
    await sandbox.wrap('skopeo', 'echo no >&2; exit 1');
    const closed = await sandbox.run(['--bundle', directory, '--retries', '0']);
    const open = await sandbox.run(['--bundle', directory, '--retries', '0', '--policy', 'open']);
    assert.deepEqual([closed.exitCode, closed.state.outcome, open.exitCode, open.state.outcome], [4, 'failed', 68, 'failed']);
    for (const { state, error, attempts } of closed.state.images) {
      assert.deepEqual([state, error?.code, attempts], ['failed', 'ERR_LOAD', 1]);
      assert.match(error?.message ?? '', /^skopeo could not load quay\.io\/\S+ \(it failed with exit code 1\): no$/);
    }
    assert.deepEqual([...(await recordedDigests(sandbox.graphroot)).keys()], []);
    await assertNothingLeft(sandbox);
  });

  it('hands the shared layer over where the image that was to bring it is damaged', async () => {
    const first = await leader();
    await damage(first);
    const { exitCode, state } = await sandbox.run(['--bundle', directory]);
    assert.equal(exitCode, 3);
    assert.deepEqual(new Map(statesOf(state)).get(first), 'failed');
    await assertLoaded(
      sandbox,
      bundle.images.filter(({ reference }) => reference !== first),
    );
  });

  it('tries again and loads the right image, counting the attempts', async () => {
    await failures(2);
    const first = await leader();
    const { exitCode, state, stderr } = await sandbox.run(['--bundle', directory, '--parallel', '1']);
    const attempts = new Map(state.images.map((image) => [image.reference, image.attempts]));
    const ofOthers = [...attempts].filter(([reference]) => reference !== first).map(([, count]) => count);
    assert.deepEqual([exitCode, attempts.get(first), ofOthers], [0, 3, [1, 1]]);
    assert.match(
      stderr,
      /: skopeo could not load \S+ \(it failed with exit code 1\): level=fatal msg="storage is busy"; retrying in 1 s\n/,
    );
    await assertLoaded(sandbox, bundle.images);
    const calls = await sandbox.log();
    assert.deepEqual(
      calls.slice(0, 3).map((call) => call.endsWith(first)),
      [true, true, true],
    );
  });

  it('gives an image up after its retries, and goes on with the others', async () => {
    await failures(2);
    const first = await leader();
    const { exitCode, state } = await sandbox.run(['--bundle', directory, '--parallel', '1', '--retries', '1']);
    assert.equal(exitCode, 3);
    const given = state.images.find(({ reference }) => reference === first);
    assert.deepEqual([given?.state, given?.attempts, given?.error?.code], ['failed', 2, 'ERR_LOAD']);
    await assertLoaded(
      sandbox,
      bundle.images.filter(({ reference }) => reference !== first),
    );
  });

  it('survives that skopeo is killed', async () => {
    await sandbox.wrap('skopeo', 'echo "$*" >>"$LOG"; [ "$(wc -l <"$LOG")" -eq 1 ] && kill -9 $$; exec "$REAL" "$@"');
    const { exitCode, state } = await sandbox.run(['--bundle', directory, '--parallel', '1']);
    assert.deepEqual([exitCode, Math.max(...state.images.map(({ attempts }) => attempts ?? 0))], [0, 2]);
    await assertLoaded(sandbox, bundle.images);
  });

  it('trusts the records of the storage, not the exit code of skopeo', async () => {
    await sandbox.wrap('skopeo', 'exit 0');
    const { exitCode, state } = await sandbox.run(['--bundle', directory, '--retries', '0']);
    assert.equal(exitCode, 4);
    for (const { error } of state.images) assert.match(error?.message ?? '', /^\S+ does not list quay\.io\/.*, although skopeo succeeded$/);
  });

  it('says so where skopeo is not installed', async () => {
    await appendFile(join(directory, 'ai-images.txt'), '\n');
    await sandbox.wrap('sh', 'case "$*" in *skopeo*) echo "sh: exec: skopeo: not found" >&2; exit 127;; esac; exec "$REAL" "$@"');
    const { exitCode, state } = await sandbox.run(['--bundle', directory, '--retries', '0']);
    assert.equal(exitCode, 4);
    for (const { error } of state.images) assert.match(error?.message ?? '', /skopeo.*not found/);
  });
});
