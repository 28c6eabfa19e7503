import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { execa } from 'execa';
import { builtExecutable } from '../../support/executable.ts';
import { smallImageSet } from '../../support/image-set.ts';
import { printedCommands } from '../../support/printed-commands.ts';
import { type Registry, startRegistry } from '../../support/registry.ts';

/** Commands that do not run here, by how they begin, and the reason. */
const NOT_RUN: Readonly<Record<string, string>> = {
  'prestage-agent images release quay.io/': 'asks quay.io; test/integration/factory/images runs it with local releases',
  'prestage-agent pull --list ai-images.txt --to images --lookaside': 'asks registry.redhat.io',
  'prestage-agent pull --list ocp-images.txt --to images --release-signatures': 'asks mirror.openshift.com',
  'prestage-agent manifests --as signatures --bundle bundle | oc apply': 'needs a cluster and signatures of a release',
  'prestage-agent verify bundle --quick --openshift 4.22': 'ends with 13 for images without signatures, as these have none',
  'prestage-agent verify bundle --quick --policy policy.json': 'needs a policy of a cluster',
  'prestage-agent fetch ': 'needs a web server; test/integration/factory/fetch starts one',
  'prestage-agent partition create /dev/nvme0n1 --size 250GiB': 'the other one in this guide has made the partition',
  'prestage-agent run ': 'is for nodes; test/integration/run',
  'prestage-agent status --watch': 'is for nodes, and does not end',
  'prestage-agent release --dry-run': 'is for nodes',
  'prestage-agent verify /mnt/data': 'the partition is verified by its disk',
};

const DISK = 'disk.img';
let registry: Registry;
let work: string;

before(async () => {
  const set = await smallImageSet();
  registry = await startRegistry({ near: set.store });
  const lines = (references: readonly string[]): string => references.map((reference) => `${reference}\n`).join('');
  work = await mkdtemp(join(tmpdir(), 'printed-'));
  const discovery = lines(await registry.add(set.store, set.discovery));
  const installed = lines(await registry.add(set.store, set.installed));
  await writeFile(join(work, 'release-discovery.txt'), discovery);
  await writeFile(join(work, 'assisted.txt'), discovery);
  await writeFile(join(work, 'ai-images.txt'), discovery);
  await writeFile(join(work, 'ocp-images.txt'), installed);
  await writeFile(join(work, 'pull-secret.json'), '{"auths":{}}');
  await writeFile(join(work, 'mine.ign'), '{"ignition":{"version":"3.2.0"}}');
  await mkdir(join(work, 'bin'));
  await symlink(await builtExecutable(), join(work, 'bin/prestage-agent'));
  await execa('truncate', ['-s', '200G', join(work, DISK)]);
});
after(async () => {
  await registry[Symbol.asyncDispose]();
  await rm(work, { recursive: true, force: true });
});

/** The command with what exists here: a registry without TLS, and a disk image that needs no answer. */
function withStandIns(text: string): string {
  const disk = text.replace('/dev/nvme0n1', DISK);
  if (text.includes(' pull ')) return `${text} --no-tls-verify`;
  if (disk !== text && text.includes(' partition ')) return `${disk} --yes --expect-serial ${join(work, DISK)}`;
  if (text.includes('partition image')) return `${text} --replace`;
  return disk;
}

for (const document of ['README.md', 'docs/factory-guide.md']) {
  describe(`the commands that ${document} prints`, () => {
    it('work in their order, as they are printed', async () => {
      // The two documents share nothing but their lists and the disk.
      for (const name of ['images', 'bundle']) await rm(join(work, name), { recursive: true, force: true });
      await rm(join(work, DISK));
      await execa('truncate', ['-s', '200G', join(work, DISK)]);
      const found = printedCommands(await readFile(document, 'utf8'));
      assert.ok(found.length > 10);
      const failed: string[] = [];
      const done = new Set<string>();
      for (const { text, line } of found) {
        // A guide may show a command in an overview and again in its section; the disk can be partitioned only once.
        if (done.has(text) || Object.keys(NOT_RUN).some((begin) => text.startsWith(begin))) continue;
        done.add(text);
        const env = { PATH: `${join(work, 'bin')}:${process.env.PATH ?? ''}` };
        const command = withStandIns(text);
        const { exitCode, stderr, stdout } = await execa('sh', ['-c', command], { cwd: work, env, reject: false, stdin: 'ignore' });
        if (exitCode !== 0)
          failed.push(`${document}:${line}: ${command} ended with ${exitCode}: ${stderr.slice(-600)} ${stdout.slice(-300)}`);
      }
      assert.deepEqual(failed, []);
    });
  });
}

it('gives no reason for a command that is not printed any more', async () => {
  const texts = await Promise.all(
    ['README.md', 'docs/factory-guide.md'].map(async (path) => printedCommands(await readFile(path, 'utf8'))),
  );
  const all = texts.flat().map(({ text }) => text);
  assert.deepEqual(
    Object.keys(NOT_RUN).filter((begin) => !all.some((text) => text.startsWith(begin))),
    [],
  );
});
