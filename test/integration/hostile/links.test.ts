import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { builtExecutable } from '../../support/executable.ts';
import { type NodeSandbox, openSandbox, sandboxUnavailable } from '../../support/sandbox.ts';

const unavailable = sandboxUnavailable();
/** What root keeps elsewhere: none of it may go. */
const ELSEWHERE = '/var/lib/elsewhere';
const FILES = 40;
/** How often links are exchanged at least while root works. */
const EXCHANGES = 1000;

/**
 * A user without rights fills a directory that root may be about to delete with directories whose files have the names of root's files, and exchanges each
 * for a link to root's directory and back, until standard input ends. Tells when it has begun, and in the end how often it has exchanged.
 */
const ATTACK = `
import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
const [place, elsewhere, files] = process.argv.slice(2);
const tried = (act) => { try { act(); return true; } catch { return false; } };
const fill = (at) => { tried(() => mkdirSync(at)); for (let i = 0; i < Number(files); i++) tried(() => writeFileSync(at + '/' + i, '')); };
const names = Array.from({ length: 20 }, (_, index) => place + '/' + index);
tried(() => mkdirSync(place));
for (const name of names) fill(name);
console.log('begun');
let exchanged = 0;
let isOver = false;
process.stdin.resume().on('end', () => { isOver = true; });
(function round() {
  tried(() => mkdirSync(place));
  for (const name of names) {
    if (!tried(() => renameSync(name, name + '.aside'))) fill(name);
    if (tried(() => symlinkSync(elsewhere, name))) exchanged++;
    tried(() => unlinkSync(name));
    tried(() => renameSync(name + '.aside', name));
  }
  if (isOver) console.log(exchanged);
  else setImmediate(round);
})();
`;

describe('a user without rights who exchanges links where root may be about to delete', { skip: unavailable }, () => {
  let node: NodeSandbox;
  let executable = '';
  let work = '';
  before(async () => {
    executable = await builtExecutable();
    work = await mkdtemp(join(tmpdir(), 'hostile-links-'));
    await writeFile(join(work, 'attack.mjs'), ATTACK);
    node = await openSandbox();
    await node.output('sh', [
      '-c',
      `chmod 755 ${work}; chmod 1777 /var/tmp; mkdir ${ELSEWHERE}; cd ${ELSEWHERE}; touch $(seq 0 ${FILES - 1})`,
    ]);
  });
  after(async () => {
    await node[Symbol.asyncDispose]();
    await rm(work, { recursive: true, force: true });
  });

  /** Attacks for as long as the act takes, and until the links were exchanged often enough. */
  const attacked = async (place: string, act: () => Promise<void>): Promise<number> => {
    const nobody = [
      '--reuid=65534',
      '--regid=65534',
      '--clear-groups',
      process.execPath,
      join(work, 'attack.mjs'),
      place,
      ELSEWHERE,
      String(FILES),
    ];
    const attacking: ChildProcess = node.start('setpriv', nobody);
    assert.ok(attacking.stdout !== null && attacking.stdin !== null);
    const said = text(attacking.stdout);
    await new Promise((resolve) => attacking.stdout?.once('data', resolve));
    await act();
    attacking.stdin.end();
    return Number((await said).trim().split('\n').at(-1));
  };
  const run = async (...args: readonly string[]) => {
    const ended = await node.exec(executable, [
      'run',
      '--stage',
      'discovery',
      '--bundle',
      work,
      '--policy',
      'closed',
      '--output',
      'json',
      ...args,
    ]);
    const { error }: { readonly error?: { readonly code: string; readonly message: string } } = JSON.parse(ended.stdout);
    return { exitCode: ended.exitCode, code: error?.code, message: error?.message };
  };
  const elsewhere = async () => Number(await node.output('sh', ['-c', `ls ${ELSEWHERE} | wc -l`]));

  it('in /dev/shm, which an agent of before took for its scratch: nothing is deleted there, and all files of root are left', async () => {
    const exchanged = await attacked('/dev/shm/prestage-agent', async () => {
      for (let count = 0; count < 5; count++) assert.equal((await run()).code, 'ERR_PAYLOAD_MISSING');
    });
    assert.ok(exchanged >= EXCHANGES, `${exchanged}`);
    assert.equal(await elsewhere(), FILES);
    assert.equal(await node.output('stat', ['-c', '%u', '/dev/shm/prestage-agent']), '65534');
  });

  for (const [how, args, files] of [
    ['--scratch', ['--scratch', '/var/tmp'], {}],
    ['the settings file', [], { '/etc/prestage-agent/config.yaml': 'scratch: /var/tmp\n' }],
  ] as const) {
    it(`in a sticky directory that ${how} names: it is refused before anything is touched`, async () => {
      for (const [path, content] of Object.entries(files))
        await node.output('sh', ['-c', `mkdir -p "$(dirname ${path})"; cat > ${path}`], { input: content });
      const exchanged = await attacked('/var/tmp/prestage-agent-scratch', async () => {
        for (let count = 0; count < 5; count++) {
          assert.deepEqual(await run(...args), {
            exitCode: 4,
            code: 'ERR_SCRATCH',
            message:
              'the scratch directory /var/tmp cannot be used, because users other than root could replace what root writes and deletes there: /var/tmp is writable for other users (mode 1777)',
          });
        }
      });
      assert.ok(exchanged >= EXCHANGES, `${exchanged}`);
      assert.equal(await elsewhere(), FILES);
      assert.equal(await node.output('stat', ['-c', '%u', '/var/tmp/prestage-agent-scratch']), '65534');
    });
  }
});
