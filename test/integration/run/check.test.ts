import assert from 'node:assert/strict';
import { once } from 'node:events';
import { cp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe } from 'node:test';
import { DATA_PATH, MIRROR_PATH, STORAGE_CONF, STORE_PATH, STORE_RECORD } from '../../../agent/model/places.ts';
import { unsealRecord } from '../../../agent/model/seal.ts';
import { checkAtWork, isAlive, makeLongBundle } from '../../support/long-store.ts';
import { buildBundle, type MountNode } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';
import type { CrashRequest } from '../../support/open-store.ts';
import { flipByte, storeImageOf } from '../../support/store-bundle.ts';

const PROGRAM = join(import.meta.dirname, '../../support/open-store.ts');
const PENDING = ['--stage', 'installed', '--placement', 'partition', '--trust', 'background'];

describe('a check of the store image that is at work', () => {
  let bundles: { readonly long: string; readonly other: string; readonly damaged: string };
  const suite = mountSuite({
    partitionMiB: 0,
    prepare: async ({ fixture }) => {
      const [long, other, damaged] = ['long', 'other', 'damaged'].map((name) => join(fixture.work, name));
      if (long === undefined || other === undefined || damaged === undefined) throw new Error('there are three');
      await makeLongBundle(fixture.bundle, long);
      const { registry, list } = fixture.images;
      await buildBundle({ blobs: fixture.blobs, images: [registry, list], directory: `${other}-short` });
      await makeLongBundle(`${other}-short`, other);
      await cp(fixture.bundle, damaged, { recursive: true });
      await flipByte((await storeImageOf(damaged)).path, 1);
      bundles = { long, other, damaged };
    },
  });
  const { onNode } = suite;
  const run = async (node: MountNode, bundle: string) => await node.run([...PENDING, '--bundle', bundle]);
  const record = async (node: MountNode) => unsealRecord(await readFile(node.path(STORE_RECORD), 'utf8'));
  const other = () => [suite.fixture.images.registry, suite.fixture.images.list].map(({ reference }) => reference).toSorted();
  /** A node whose store image is being checked by a process that works for minutes. */
  const onCheckedNode = (what: string, act: (node: MountNode, check: number) => Promise<void>): void => {
    onNode(what, async (node) => {
      const { exitCode, state, stderr } = await run(node, bundles.long);
      assert.deepEqual([exitCode, state.outcome, state.store?.verified, state.notices], [0, 'complete', 'pending', []], stderr);
      await act(node, await checkAtWork(node));
    });
  };

  onCheckedNode('is ended by a release, which takes everything back', async (node, check) => {
    const planned = await node.agent(['release', '--dry-run']);
    assert.match(planned.stdout, new RegExp(`\n {2}end the check of the store image \\(process ${check}\\)\n`));
    const { exitCode, stdout } = await node.agent(['release', '--yes']);
    assert.deepEqual([exitCode, await node.ourMounts(), await isAlive(node, check)], [0, [], false], stdout);
    assert.match(stdout, new RegExp(`done {4}end the check of the store image \\(process ${check}\\)\n`));
    assert.equal((await node.agent(['release', '--yes'])).stdout, 'nothing to undo');
  });

  onCheckedNode('is ended by a release though it does not heed SIGTERM', async (node, check) => {
    await node.output('kill', ['-STOP', String(check)]);
    const { exitCode, stdout } = await node.agent(['release', '--yes']);
    assert.deepEqual([exitCode, await node.ourMounts(), await isAlive(node, check)], [0, [], false], stdout);
  });

  onCheckedNode('is kept by a run of the same bundle', async (node, check) => {
    const { exitCode, state, stderr } = await run(node, bundles.long);
    assert.deepEqual([exitCode, state.outcome, state.notices, await isAlive(node, check)], [0, 'complete', [], true], stderr);
    assert.equal(await checkAtWork(node), check);
  });

  onCheckedNode('is replaced by a run of another bundle, whose images are there', async (node, check) => {
    const { exitCode, state, stderr } = await run(node, bundles.other);
    assert.deepEqual([exitCode, state.outcome, await isAlive(node, check)], [0, 'complete', false], stderr);
    assert.deepEqual(await node.readOnlyImages({ CONTAINERS_STORAGE_CONF: STORAGE_CONF }), other());
    assert.notEqual(await checkAtWork(node), check);
  });

  onCheckedNode('is begun again if the store has to stay, which is open as it was', async (node, check) => {
    const before = await record(node);
    const user = node.start('sh', ['-c', `cd ${STORE_PATH} && exec sleep 600`]);
    await node.output('sh', ['-c', `until fuser -m ${STORE_PATH} >/dev/null 2>&1; do sleep 0.05; done`]);
    const refused = await run(node, bundles.other);
    assert.deepEqual([refused.exitCode, refused.state.error?.code], [4, 'ERR_STORE_BUSY'], refused.stderr);
    const assertAsBefore = async (): Promise<void> => {
      assert.deepEqual([await record(node), await node.ourMounts()], [before, [DATA_PATH, STORE_PATH]]);
      assert.deepEqual(
        await node.readOnlyImages({ CONTAINERS_STORAGE_CONF: STORAGE_CONF }),
        suite.fixture.all.map(({ reference }) => reference).toSorted(),
      );
    };
    await assertAsBefore();
    const { reference } = suite.fixture.images.tag;
    const pulled = await node.exec('podman', ['pull', reference], { env: { CONTAINERS_STORAGE_CONF: STORAGE_CONF } });
    assert.deepEqual([pulled.exitCode, refused.state.registry?.tree], [0, MIRROR_PATH], pulled.stderr);
    await node.output('podman', ['rmi', reference], { env: { CONTAINERS_STORAGE_CONF: STORAGE_CONF } });
    const again = await checkAtWork(node);
    assert.deepEqual([await isAlive(node, check), await isAlive(node, again)], [false, true]);
    const released = await node.agent(['release', '--yes']);
    assert.equal(released.exitCode, 4, released.stdout);
    await assertAsBefore();
    assert.equal(await isAlive(node, await checkAtWork(node)), true);
    await node.output('sh', [
      '-c',
      `fuser -k -m ${STORE_PATH} >/dev/null 2>&1; while fuser -m ${STORE_PATH} >/dev/null 2>&1; do sleep 0.05; done`,
    ]);
    user.kill();
    assert.equal((await node.agent(['release', '--yes'])).exitCode, 0);
    assert.deepEqual(await node.ourMounts(), []);
  });

  onCheckedNode('says that it was ended', async (node, check) => {
    await node.output('kill', ['-KILL', String(check)]);
    const child = node.start(suite.fixture.executable, ['check-store']);
    const said = child.stderr === null ? Promise.resolve('') : text(child.stderr);
    const ended = once(child, 'exit');
    await checkAtWork(node);
    assert.equal((await node.agent(['release', '--yes'])).exitCode, 0);
    assert.deepEqual(await ended, [11, null]);
    assert.match(await said, /the command was interrupted.*\n.*ERR_INTERRUPTED/);
  });

  onNode('that cannot be started leaves the run as it is, with a notice', async (node) => {
    await node.output('mount', ['--bind', '/dev/null', '/usr/bin/setsid']);
    const { exitCode, state, stderr } = await run(node, bundles.long);
    assert.deepEqual([exitCode, state.outcome, state.notices.length], [0, 'complete', 1], stderr);
    assert.match(
      state.notices[0] ?? '',
      /^the bytes of the store image are not checked, because the check did not start: setsid .*; start it with: prestage-agent check-store$/,
    );
  });

  onNode('of a damaged image leaves a store alone that was opened meanwhile, and checks that', async (node) => {
    const open = async (directory: string): Promise<void> => {
      const image = await storeImageOf(directory);
      const request: CrashRequest = {
        wanted: 'open',
        root: '/',
        point: 'after:nothing',
        image,
        bundleDirectory: directory,
        placement: 'partition',
      };
      await node.output(process.execPath, [PROGRAM, JSON.stringify(request)]);
    };
    await open(bundles.damaged);
    const holder = node.start('sh', ['-c', 'echo $$ >/run/holder; exec 9>>/run/prestage-agent/lock; flock 9; echo held; exec sleep 600']);
    if (holder.stdout === null) throw new Error('the lock has no output');
    await once(holder.stdout, 'data');
    const check = node.start(suite.fixture.executable, ['check-store'], { PRESTAGE_DEBUG: '1' });
    if (check.stdout === null || check.stderr === null) throw new Error('the check has no output');
    const [said, ended] = [text(check.stdout), once(check, 'exit')];
    let told = '';
    for await (const chunk of check.stderr) {
      told += String(chunk);
      if (told.includes('step take-lock')) break;
    }
    check.stderr.resume();
    // What an agent of before, or a person, would do: nobody ends the check.
    await node.output('sh', ['-c', `umount ${STORE_PATH} && umount ${DATA_PATH} && rm ${STORE_RECORD}`]);
    await open(suite.fixture.bundle);
    const before = await record(node);
    await node.output('sh', ['-c', 'kill "$(cat /run/holder)"']);
    assert.deepEqual([await ended, await said], [[0, null], 'the mounted store image is intact\n']);
    assert.deepEqual([await record(node), await node.ourMounts()], [{ ...before, verified: 'yes' }, [DATA_PATH, STORE_PATH]]);
  });
});
