import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { linuxHost } from '../../../agent/host/linux.ts';
import { takeLock } from '../../../agent/host/lock.ts';
import { takeRunLock } from '../../../agent/host/run-lock.ts';
import { errorRecord } from '../../../agent/model/errors.ts';

/** A lock that a program holds for half a second, as one that process `pid` took. */
async function heldLock(pid: number): Promise<AsyncDisposable & { readonly path: string }> {
  const work = await mkdtemp(join(tmpdir(), 'lock-'));
  const path = join(work, 'lock');
  const child = spawn('flock', [path, 'sh', '-c', 'echo held; sleep 0.5'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  await once(child.stdout, 'data');
  await writeFile(`${path}.holder`, JSON.stringify({ pid, command: 'build --to /bundle' }));
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      await ended;
      await rm(work, { recursive: true });
    },
  };
}

test('a lock whose holder is gone is waited for, because the program that holds it is about to end', async () => {
  const { pid } = spawnSync('true');
  await using held = await heldLock(pid);
  await using lock = await takeLock({ path: held.path, waitSeconds: 0, command: 'test' });
  assert.ok(lock);
});

test('a lock of a process that lives is refused at once, naming it', async () => {
  await using held = await heldLock(process.pid);
  const { code, message } = errorRecord(
    await takeLock({ path: held.path, waitSeconds: 0, command: 'test' }).catch((thrown: unknown) => thrown),
  );
  assert.deepEqual([code, message], ['ERR_LOCKED', `${held.path} is held by process ${process.pid} (build --to /bundle); waited 0 s`]);
});

test('who waits for a lock gives up when it is asked to end, and does not get the lock later', async () => {
  await using held = await heldLock(process.pid);
  const reason = new Error('the command ends');
  const ending = new AbortController();
  setTimeout(() => ending.abort(reason), 50);
  const request = { path: held.path, waitSeconds: 60, command: 'test', signal: ending.signal };
  assert.equal(await takeLock(request).catch((thrown: unknown) => thrown), reason);
  await using lock = await takeLock({ path: held.path, waitSeconds: 60, command: 'test' });
  assert.ok(lock);
});

test('who has the lock takes away what killed commands had not put into place, and nothing else', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'lock-'));
  t.after(() => rm(root, { recursive: true }));
  const place = join(root, 'var/lib/prestage-agent');
  await mkdir(place, { recursive: true });
  for (const name of ['.state.json.0123456789ab.tmp', 'state.json', '.of-somebody.tmp']) await writeFile(join(place, name), '');
  await using lock = await takeRunLock(linuxHost({ root, env: {}, log: () => undefined }), { waitSeconds: 0, command: 'test' });
  assert.ok(lock);
  assert.deepEqual((await readdir(place)).toSorted(), ['.of-somebody.tmp', 'state.json']);
});
