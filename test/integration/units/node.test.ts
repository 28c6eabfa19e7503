import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { STAGES, type Stage } from '../../../agent/model/stage.ts';
import { runIgnition } from '../../../agent/units/ignition.ts';
import type { FailurePolicy } from '../../../agent/units/render.ts';
import { TOP } from '../../support/cache.ts';
import { ignitedRoot } from '../../support/ignited.ts';
import { author, PIN } from '../../support/ignition.ts';

/** Worst `systemd-analyze security` exposure of our units; docs/ignition.md records it and says why it is high. */
const HIGHEST_EXPOSURE = 8.2;
/** The units of a node that ours are ordered against, with the order that they have among themselves (field: templates of the MCO). */
const NODE_UNITS: Readonly<Record<string, string>> = {
  'agent.service': '',
  'crio-wipe.service': '',
  'machine-config-daemon-pull.service': 'Wants=crio-wipe.service\nAfter=crio-wipe.service\n',
  'nodeip-configuration.service': 'Before=kubelet-dependencies.target\n',
  'crio.service': 'Wants=kubelet-dependencies.target\nAfter=kubelet-dependencies.target\n',
  'kubelet.service': 'Requires=crio.service kubelet-dependencies.target\nAfter=crio.service kubelet-dependencies.target\n',
};
const STARTED_AT_BOOT = ['agent.service', 'machine-config-daemon-pull.service', 'nodeip-configuration.service', 'kubelet.service'];

let scratch = '';
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'ignition-node-'));
  await chmod(scratch, 0o755);
});
after(() => rm(scratch, { recursive: true, force: true }));

/** An empty root after the real Ignition has applied our override, with the presets in force. */
async function stageRoot(stage: Stage, policy: FailurePolicy): Promise<string> {
  const root = await ignitedRoot(join(scratch, `${stage}-`), (await runIgnition({ stage, policy, agentSha256: PIN }, author)).text);
  await output(execOnLinux, 'systemctl', [`--root=${root}`, 'preset', `prestage-agent-${stage}.service`]);
  return root;
}

/** Adds what a node has besides: systemd's own targets, and stand-ins for the units that ours are ordered against. */
async function addNodeUnits(root: string): Promise<void> {
  const units = join(root, 'usr/lib/systemd/system');
  await mkdir(join(units, 'multi-user.target.wants'), { recursive: true });
  for (const name of readdirSync('/lib/systemd/system').filter((file) => /\.target$|^-\.slice$/.test(file))) {
    cpSync(join('/lib/systemd/system', name), join(units, name), { verbatimSymlinks: true });
  }
  for (const [name, order] of Object.entries(NODE_UNITS)) {
    await writeFile(join(units, name), `[Unit]\n${order}[Service]\nType=oneshot\nExecStart=/bin/true\n`);
  }
  await writeFile(join(units, 'kubelet-dependencies.target'), '[Unit]\nDescription=Dependencies of the kubelet\n');
  for (const name of STARTED_AT_BOOT) await symlink(`../${name}`, join(units, 'multi-user.target.wants', name));
  await mkdir(join(root, 'bin'), { recursive: true });
  cpSync('/bin/true', join(root, 'bin/true'));
}

/**
 * The transaction of a boot into multi-user.target, as systemd itself works it out; it refuses to do so as root.
 * @returns the lines about each unit that has a job, by the unit's name
 */
async function bootTransaction(root: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const env = { HOME: '/nonexistent', SYSTEMD_UNIT_PATH: `${root}/etc/systemd/system:${root}/usr/lib/systemd/system` };
  const asNobody = ['--reuid', '65534', '--regid', '65534', '--clear-groups', 'env', '-u', 'XDG_CONFIG_HOME', '/lib/systemd/systemd'];
  const text = await output(execOnLinux, 'setpriv', [...asNobody, '--test', '--system', '--unit=multi-user.target'], { env });
  const sections = text.split(/^\t?-> Unit /m).slice(1);
  const lines = sections.map((section) => section.split('\n').map((line) => line.trim()));
  return new Map(
    lines
      .filter((section) => section.some((line) => line.endsWith('-> start')))
      .map((section) => [section[0]?.replace(/:$/, '') ?? '', section]),
  );
}

/** Units that one line of a section names, without where systemd read it: `Before: agent.service (origin-file)`. */
function named(section: readonly string[] | undefined, key: string): readonly string[] {
  return (section ?? [])
    .flatMap((line) =>
      line.startsWith(`${key}: `) && line.includes('origin-file') ? [line.slice(key.length + 2).replace(/ \(.*/, '')] : [],
    )
    .sort();
}

const links: Record<Stage, Record<FailurePolicy, readonly string[]>> = {
  discovery: {
    open: ['agent.service.wants', 'multi-user.target.wants'],
    closed: ['agent.service.requires', 'agent.service.wants', 'multi-user.target.wants'],
  },
  installed: {
    open: ['multi-user.target.wants'],
    closed: ['kubelet-dependencies.target.requires', 'multi-user.target.wants'],
  },
};
/** What systemd puts every service after. */
const AFTER_EVERY = ['system.slice', 'systemd-journald.socket'];
const order: Record<Stage, { readonly before: readonly string[]; readonly after: readonly string[] }> = {
  discovery: { before: ['agent.service'], after: AFTER_EVERY },
  installed: {
    before: ['crio.service', 'kubelet-dependencies.target', 'machine-config-daemon-pull.service', 'nodeip-configuration.service'],
    after: ['crio-wipe.service', 'local-fs.target', ...AFTER_EVERY],
  },
};
const requirer: Record<Stage, string> = { discovery: 'agent.service', installed: 'kubelet-dependencies.target' };

for (const stage of STAGES) {
  for (const policy of ['open', 'closed'] as const) {
    test(`the real Ignition puts the ${stage} override with the policy ${policy} on a node: files, modes, unit enabled`, async () => {
      const root = await stageRoot(stage, policy);
      const launcher = join(root, 'usr/local/bin/prestage-launcher');
      const env = join(root, 'etc/prestage-agent/launcher.env');
      assert.deepEqual([statSync(launcher).mode & 0o7777, statSync(env).mode & 0o7777], [0o755, 0o644]);
      assert.deepEqual(readFileSync(launcher), await readFile(join(TOP, 'agent/units/prestage-launcher.sh')));
      assert.equal(readFileSync(env, 'utf8'), `LABEL=data\nAGENT_SHA256=${PIN}\n`);
      const units = join(root, 'etc/systemd/system');
      const directories = readdirSync(units, { withFileTypes: true }).filter((entry) => entry.isDirectory());
      assert.deepEqual(directories.map(({ name }) => name).sort(), links[stage][policy]);
      for (const { name } of directories) assert.deepEqual(readdirSync(join(units, name)), [`prestage-agent-${stage}.service`]);
    });
  }

  test(`systemd verifies the ${stage} unit without a word, and its exposure is not higher than recorded`, async () => {
    const root = await stageRoot(stage, 'closed');
    await addNodeUnits(root);
    const unit = `prestage-agent-${stage}.service`;
    assert.deepEqual(await execOnLinux('systemd-analyze', ['verify', `--root=${root}`, unit]), { stdout: '', stderr: '', exitCode: 0 });
    const security = await output(execOnLinux, 'systemd-analyze', ['security', '--offline=yes', '--no-pager', `--root=${root}`, unit]);
    const exposure = Number(/exposure level for \S+: ([0-9.]+)/.exec(security)?.[1]);
    assert.ok(exposure <= HIGHEST_EXPOSURE, `${exposure}`);
    assert.match(await readFile(join(TOP, 'docs/ignition.md'), 'utf8'), new RegExp(`exposure \\*\\*${HIGHEST_EXPOSURE}\\*\\*`));
  });

  test(`a boot starts the ${stage} unit in its place in the order, and with the policy closed what needs the images requires it`, async () => {
    const unit = `prestage-agent-${stage}.service`;
    for (const policy of ['open', 'closed'] as const) {
      const root = await stageRoot(stage, policy);
      await addNodeUnits(root);
      const transaction = await bootTransaction(root);
      assert.deepEqual({ before: named(transaction.get(unit), 'Before'), after: named(transaction.get(unit), 'After') }, order[stage]);
      assert.equal(named(transaction.get(requirer[stage]), 'Requires').includes(unit), policy === 'closed');
      for (const other of STARTED_AT_BOOT)
        assert.ok(transaction.has(other), `${other} is started as well: no job was deleted to break a cycle`);
    }
  });
}
