import assert from 'node:assert/strict';
import { chmod, chown, lstat, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { checkWorkplace } from '../../../agent/host/chain.ts';
import { makeEmptyDirectory, removeTree, temporaryDirectory } from '../../../agent/host/remove-tree.ts';

describe('the removal of a tree', () => {
  let work = '';
  let count = 0;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'remove-tree-'));
  });
  after(async () => await rm(work, { recursive: true, force: true }));

  /** A directory of its own for a test, with the tree to remove, and something beside it that has to stay. */
  const place = async () => {
    const top = join(work, String(count++));
    const [tree, elsewhere] = [join(top, 'tree'), join(top, 'elsewhere')];
    await mkdir(join(tree, 'a/b'), { recursive: true });
    await mkdir(join(elsewhere, 'below'), { recursive: true });
    for (const path of [join(tree, 'file'), join(tree, 'a/b/file'), join(elsewhere, 'kept'), join(elsewhere, 'below/kept')])
      await writeFile(path, '');
    return { top, tree, elsewhere };
  };
  const namesIn = async (path: string): Promise<readonly string[]> => (await readdir(path, { recursive: true })).toSorted();
  const KEPT = ['below', 'below/kept', 'kept'];

  it('takes away files, directories, links and names that are not UTF-8, and nothing behind a link', async () => {
    const { top, tree, elsewhere } = await place();
    await symlink(elsewhere, join(tree, 'link'));
    await symlink(join(elsewhere, 'kept'), join(tree, 'a/link'));
    await symlink('nowhere', join(tree, 'a/broken'));
    await writeFile(Buffer.concat([Buffer.from(`${tree}/a/`), Buffer.from([0xff, 0xfe])]), '');
    for (let index = 0; index < 200; index++) await writeFile(join(tree, 'a/b', String(index)), '');
    await removeTree(tree);
    assert.deepEqual([await readdir(top), await namesIn(elsewhere)], [['elsewhere'], KEPT]);
  });

  it('takes away a link or a file that stands at the path itself, and is content when nothing does', async () => {
    const { top, tree, elsewhere } = await place();
    for (const at of ['link', 'file']) {
      const path = join(top, at);
      await (at === 'link' ? symlink(elsewhere, path) : writeFile(path, ''));
      await removeTree(path);
    }
    await removeTree(join(top, 'nothing'));
    await removeTree(join(top, 'nothing/below'));
    await removeTree(join(tree, 'file/below'));
    assert.deepEqual([await readdir(top), await namesIn(elsewhere)], [['elsewhere', 'tree'], KEPT]);
  });

  it('goes through links of this user on the way, to the place that they lead to', async () => {
    const { top, tree, elsewhere } = await place();
    await symlink('..', join(elsewhere, 'up'));
    await symlink(join(elsewhere, 'up'), join(top, 'way'));
    await removeTree(join(top, 'way/tree/a'));
    assert.deepEqual(await namesIn(tree), ['file']);
  });

  it('refuses when everybody can write to a directory that leads there', async () => {
    const { top, tree } = await place();
    await chmod(top, 0o777);
    assert.deepEqual(await refusal(tree), {
      code: 'ERR_REMOVE',
      message: `${tree} is not removed, because other users could redirect the removal: ${top} is writable for other users (mode 777)`,
    });
    await assert.rejects(checkWorkplace(tree), { code: 'ERR_WORKPLACE' });
    assert.deepEqual(await namesIn(tree), ['a', 'a/b', 'a/b/file', 'file']);
    await chmod(top, 0o755);
  });

  it('goes on in a sticky directory that everybody can write to, when what follows belongs to this user', async () => {
    const { top, tree } = await place();
    await chmod(top, 0o1777);
    await checkWorkplace(tree);
    await removeTree(tree);
    assert.deepEqual(await readdir(top), ['elsewhere']);
  });

  const isRoot = process.geteuid?.() === 0;
  const OTHER = 65534;
  for (const { what, sticky, give, says } of [
    {
      what: 'the directory above',
      sticky: false,
      give: (tree: string) => dirname(tree),
      says: (tree: string) => `${dirname(tree)} belongs to user ${OTHER}`,
    },
    {
      what: 'the tree, in a directory that every user can write to,',
      sticky: true,
      give: (tree: string) => tree,
      says: (tree: string) => `${tree} belongs to user ${OTHER}, in a directory that every user can write to`,
    },
  ]) {
    // Only root can give a file away: for other users there is nothing to refuse here.
    if (isRoot)
      it(`refuses when ${what} belongs to another user`, async () => {
        const { top, tree } = await place();
        if (sticky) await chmod(top, 0o1777);
        await chown(give(tree), OTHER, OTHER);
        assert.deepEqual(await refusal(tree), {
          code: 'ERR_REMOVE',
          message: `${tree} is not removed, because other users could redirect the removal: ${says(tree)}`,
        });
        assert.deepEqual(await namesIn(tree), ['a', 'a/b', 'a/b/file', 'file']);
        await chown(give(tree), 0, 0);
      });
  }

  it('refuses where something is mounted below, also behind a link on the way', async () => {
    // Of every machine: /proc is mounted below /, and the link that leads there is our own.
    const { top } = await place();
    await symlink('/', join(top, 'way'));
    assert.deepEqual(await refusal(join(top, 'way/proc')), {
      code: 'ERR_REMOVE',
      message: `${join(top, 'way/proc')} is not removed, because something is mounted at /proc`,
    });
  });

  it('leaves an empty directory where one is asked for, and a temporary one takes itself away', async () => {
    const { tree } = await place();
    await makeEmptyDirectory(tree, 0o700);
    assert.deepEqual([await readdir(tree), (await lstat(tree)).mode & 0o777], [[], 0o700]);
    let path = '';
    {
      await using directory = await temporaryDirectory('remove-tree-');
      path = directory.path;
      await writeFile(join(path, 'file'), 'text');
      assert.equal(await readFile(join(path, 'file'), 'utf8'), 'text');
    }
    await assert.rejects(lstat(path), { code: 'ENOENT' });
  });

  async function refusal(path: string): Promise<{ readonly code: string; readonly message: string }> {
    const error: unknown = await removeTree(path).then(
      () => assert.fail(`${path} was removed`),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof Error && 'code' in error);
    return { code: String(error.code), message: error.message };
  }
});
