import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmod, chown, lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, beforeEach, describe, it } from 'node:test';
import { type Act, plainAct } from '../../../agent/host/acts.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import type { Host } from '../../../agent/host/host.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { type ErrorRecord, errorRecord } from '../../../agent/model/errors.ts';
import { BACKUP_PATH, SETUP_RECORD } from '../../../agent/model/places.ts';
import { OWNED_MARK } from '../../../agent/system-files/file.ts';
import { putSystemFiles, type SystemFile } from '../../../agent/system-files/put.ts';
import { systemFileUndoSteps, type TakeOut } from '../../../agent/system-files/undo.ts';

const MAIN = '/etc/containers/storage.conf';
const NEW = '/etc/containers/registries.conf';
const DROP_IN = '/etc/crio/crio.conf.d/50-prestage.conf';
const UNIT = '/run/systemd/system/podman.service.d/50-prestage.conf';

const FILES: readonly SystemFile[] = [
  { path: DROP_IN, content: `${OWNED_MARK}\n[crio]\n`, how: 'add' },
  { path: MAIN, content: '[storage]\nchanged = true\n', how: 'edit' },
  { path: NEW, content: 'unqualified-search-registries = []\n', how: 'edit' },
  { path: UNIT, content: `${OWNED_MARK}\n[Service]\n`, mode: 0o600, how: 'add' },
];
const PATHS = FILES.map(({ path }) => path);

describe('files of the system', () => {
  let work: string;
  let host: Host;
  const works: string[] = [];
  const at = (path: string): string => join(work, path);

  beforeEach(async () => {
    work = await mkdtemp(join(tmpdir(), 'owned-'));
    works.push(work);
    host = linuxHost({ root: work, env: {}, log: () => {} });
    await mkdir(at('/etc/containers'), { recursive: true });
    await mkdir(at('/etc/crio'));
    await mkdir(at('/run/systemd/system'), { recursive: true });
    await writeFile(at(MAIN), '[storage]\r\n# bytes \xff\n', 'latin1');
    await chmod(at(MAIN), 0o640);
    await chown(at(MAIN), 7, 8);
    await output(execOnLinux, 'touch', ['--date=@1234567890.123456789', at(MAIN)]);
  });
  after(async () => await Promise.all(works.map(async (one) => await rm(one, { recursive: true, force: true }))));

  const put = async (files = FILES, act: Act = plainAct) => await putSystemFiles(host, files, act);
  const release = async (takeOut?: TakeOut, act: Act = plainAct): Promise<readonly string[]> => {
    const steps = await systemFileUndoSteps(host, takeOut);
    for (const one of steps) await act(one.name, one.run);
    return steps.map(({ text }) => text);
  };

  it('are put with their content, and taken back so that the tree is as before, byte for byte', async () => {
    await output(execOnLinux, 'sh', ['-c', 'cp --archive --no-clobber /etc/. "$1"', 'sh', at('/etc')]);
    await rm(at(NEW), { force: true });
    const before = await treeOf(work);
    assert.ok(Object.keys(before).length > 100, 'this machine has an /etc');
    assert.deepEqual(await put(), PATHS);
    for (const { path, content } of FILES) assert.equal(await readFile(at(path), 'utf8'), content);
    const main = await lstat(at(MAIN));
    assert.deepEqual([main.mode & 0o7777, main.uid, main.gid], [0o640, 7, 8], 'an edited file keeps its mode and its owner');
    assert.equal((await lstat(at(UNIT))).mode & 0o7777, 0o600);
    assert.deepEqual(await release(), [
      `remove ${UNIT}`,
      `remove ${DROP_IN}`,
      `remove ${NEW}, which did not exist before`,
      `restore ${MAIN} as it was`,
      'remove the directory /run/systemd/system/podman.service.d if it is empty',
      'remove the directory /etc/crio/crio.conf.d if it is empty',
      'forget which system files were changed',
    ]);
    assert.deepEqual(await treeOf(work), before);
    assert.deepEqual(await release(), [], 'then there is nothing to take back');
  });

  it('that are as they should be are not written, nor the record of them', async () => {
    await put();
    const before = await treeOf(work, ['etc', 'run', 'var']);
    const failing: Act = async (name) => assert.fail(`the act ${name} is done`);
    assert.deepEqual(await put(FILES, failing), []);
    assert.deepEqual(await treeOf(work, ['etc', 'run', 'var']), before);
  });

  it('that the agent changes again are still restored as they were at first', async () => {
    const before = await treeOf(work);
    await put();
    const again = FILES.map((file) => ({ ...file, content: `${file.content}# again\n` }));
    assert.deepEqual(await put(again), PATHS);
    await release();
    assert.deepEqual(await treeOf(work), before);
  });

  it('come back as before, wherever the agent was killed while it put them, and whether it was started again or not', async () => {
    const before = await treeOf(work);
    for (let point = 0, isThrough = false; !isThrough; point++) {
      for (const isStartedAgain of [false, true]) {
        isThrough = await put(FILES, killedAt(point)).then(
          () => true,
          (error: unknown) => assert.equal(error, KILLED) ?? false,
        );
        if (isStartedAgain) await put();
        await release();
        assert.deepEqual(await treeOf(work), before, `killed at ${point}`);
        assert.deepEqual(await readdir(at('/var/lib/prestage-agent')).catch(() => []), []);
      }
    }
  });

  it('come back as before, wherever the release was killed', async () => {
    const before = await treeOf(work);
    for (let point = 0, isThrough = false; !isThrough; point++) {
      await put();
      isThrough = await release({}, killedAt(point)).then(
        () => true,
        (error: unknown) => assert.equal(error, KILLED) ?? false,
      );
      await release();
      assert.deepEqual(await treeOf(work), before, `killed at ${point}`);
    }
  });

  it('that a writer left half-written are taken away', async () => {
    const before = await treeOf(work);
    await put();
    const left = join(dirname(MAIN), '.storage.conf.0123456789ab.tmp');
    await writeFile(at(left), 'half');
    await writeFile(at(join(dirname(MAIN), '.other.0123456789ab.tmp')), 'somebody’s');
    assert.ok((await release()).includes(`remove ${left}, which a killed run left`));
    await rm(at(join(dirname(MAIN), '.other.0123456789ab.tmp')));
    assert.deepEqual(await treeOf(work), before);
  });

  for (const [how, spoil] of [
    ['lost', async () => await rm(at(SETUP_RECORD))],
    ['damaged', async () => await writeFile(at(SETUP_RECORD), '{"seal":')],
  ] as const) {
    it(`are recognised by their mark and their backups where the record is ${how}`, async () => {
      const before = await treeOf(work);
      await put();
      await spoil();
      await release();
      // Whether the agent made this directory was in the record alone.
      await rm(at('/etc/crio/crio.conf.d'), { recursive: true });
      assert.deepEqual(await treeOf(work), before);
    });
  }

  it('that somebody else has at our places are an error each, and then nothing at all is changed', async () => {
    await mkdir(dirname(at(DROP_IN)));
    await writeFile(at(DROP_IN), '[crio]\n');
    await rm(at('/run/systemd/system'), { recursive: true });
    await symlink(at('/etc'), at('/run/systemd/system'));
    await symlink(at(MAIN), at(NEW));
    const before = await treeOf(work, ['etc', 'run', 'var']);
    const error = await rejectionOf(put());
    assert.deepEqual(
      [error.code, error.message],
      [
        'ERR_SYSTEM_FILE',
        [
          'system files cannot be changed: 3 faults',
          `${DROP_IN} already exists and was not written by the agent`,
          `${NEW} is a symbolic link`,
          `${UNIT} is reached through the symbolic link /run/systemd/system`,
        ].join('\n'),
      ],
    );
    assert.match(
      error.remedy,
      new RegExp(`^Move ${DROP_IN} away, or keep it if it does what the agent’s file would do; Replace ${NEW} with a plain file`),
    );
    assert.deepEqual(await treeOf(work, ['etc', 'run', 'var']), before);
  });

  it('that somebody changed since are left as they are, and said to be', async () => {
    await put();
    await writeFile(at(MAIN), 'somebody’s\n');
    await writeFile(at(DROP_IN), 'somebody’s\n');
    const before = [await readFile(at(MAIN), 'utf8'), await readFile(at(DROP_IN), 'utf8')];
    const texts = await release();
    assert.ok(texts.includes(`leave ${DROP_IN}: somebody else has put another file there`));
    assert.match(
      texts.join('\n'),
      new RegExp(`^leave ${MAIN}: somebody changed it since; the original is in .*${BACKUP_PATH}/[0-9a-f]{64}\\.json, as base64$`, 'm'),
    );
    assert.deepEqual([await readFile(at(MAIN), 'utf8'), await readFile(at(DROP_IN), 'utf8')], before);
  });

  it('that somebody changed since lose the agent’s part alone, where it can be told', async () => {
    await put();
    await writeFile(at(MAIN), '[storage]\nchanged = true\nmore = 1\n');
    const texts = await release({ [MAIN]: (text) => text.replace('changed = true\n', '') });
    assert.ok(texts.includes(`remove the agent’s part from ${MAIN}, which somebody has changed since`));
    assert.equal(await readFile(at(MAIN), 'utf8'), '[storage]\nmore = 1\n');
    assert.equal((await lstat(at(MAIN))).uid, 7);
    assert.deepEqual(await release(), []);
  });

  it('that somebody changed between two changes of the agent do not lose that change', async () => {
    await put();
    await writeFile(at(MAIN), '[storage]\nchanged = true\nmore = 1\n');
    await put([{ path: MAIN, content: '[storage]\nchanged = twice\nmore = 1\n', how: 'edit' }]);
    const texts = await release({ [MAIN]: (text) => text.replace('changed = twice\n', '') });
    assert.ok(texts.includes(`remove the agent’s part from ${MAIN}, which somebody has changed since`));
    assert.equal(await readFile(at(MAIN), 'utf8'), '[storage]\nmore = 1\n');
  });

  it('whose backup is damaged are neither changed nor restored', async () => {
    await put();
    const [backup = ''] = (await readdir(at(BACKUP_PATH), { withFileTypes: true })).map((entry) => join(entry.parentPath, entry.name));
    const damaged = (await readFile(backup, 'utf8')).includes(MAIN) ? MAIN : NEW;
    await writeFile(backup, '{}');
    const error = await rejectionOf(put([{ path: damaged, content: 'other\n', how: 'edit' }]));
    assert.deepEqual([error.code, error.message], ['ERR_SYSTEM_FILE', `the backup of ${damaged} cannot be read: ${backup}`]);
    assert.ok((await release()).includes(`leave ${damaged}: its backup ${backup} is damaged`));
    assert.equal(await readFile(at(damaged), 'utf8'), FILES.find(({ path }) => path === damaged)?.content);
  });

  it('that changed between the plan of a release and its act are not touched', async () => {
    await put();
    const steps = await systemFileUndoSteps(host);
    await writeFile(at(MAIN), 'just now\n');
    const error = await rejectionOf(steps.find(({ path }) => path === MAIN)?.run());
    assert.deepEqual([error.code, error.message], ['ERR_SYSTEM_FILE', `${MAIN} has changed since the plan was made`]);
    assert.equal(await readFile(at(MAIN), 'utf8'), 'just now\n');
  });

  it('that were not changed yet keep the time that somebody gave them', async () => {
    await utimes(at(MAIN), 5, 5);
    const before = await treeOf(work);
    await put(FILES, killedAt(4)).catch(() => undefined);
    await release();
    assert.deepEqual(await treeOf(work), before);
  });
});

/** What a promise ends in. */
async function rejectionOf(promise: Promise<unknown> | undefined): Promise<ErrorRecord> {
  const [result] = await Promise.allSettled([promise]);
  return result?.status === 'rejected' ? errorRecord(result.reason) : assert.fail('nothing was thrown');
}

const KILLED = new Error('killed');

/** Ends at the Nth point, of which each step has two. */
function killedAt(point: number): Act {
  let at = 0;
  const pass = (): void => {
    if (at++ === point) throw KILLED;
  };
  return async (_name, action) => {
    pass();
    const result = await action();
    pass();
    return result;
  };
}

/** What lies in some directories by path: kind, mode, owner, links, bytes, and the time of files to the nanosecond. */
async function treeOf(work: string, tops = ['etc', 'run/systemd']): Promise<Readonly<Record<string, string>>> {
  const below = await Promise.all(
    tops.map(async (top) => await readdir(join(work, top), { recursive: true, withFileTypes: true }).catch(() => [])),
  );
  const paths = below.flat().map((entry) => join(entry.parentPath, entry.name));
  const described = await Promise.all(paths.toSorted().map(async (path) => [path.slice(work.length), await describeFile(path)] as const));
  return Object.fromEntries(described);
}

async function describeFile(path: string): Promise<string> {
  const found = await lstat(path, { bigint: true });
  const owner = `${found.mode.toString(8)} ${found.uid}:${found.gid}`;
  if (found.isSymbolicLink()) return `${owner} ${await readlink(path)}`;
  if (!found.isFile()) return owner;
  return `${owner} ${found.mtimeNs} ${createHash('sha256')
    .update(await readFile(path))
    .digest('hex')}`;
}
