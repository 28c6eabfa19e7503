import assert from 'node:assert/strict';
import { appendFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it, test } from 'node:test';
import { type EngineFacts, engineFacts } from '../../../agent/engine/engine-facts.ts';
import { planEngineFiles } from '../../../agent/engine/engine-files.ts';
import { markedLines } from '../../../agent/engine/registries-marks.ts';
import { setUpEngines } from '../../../agent/engine/set-up.ts';
import { DEFAULT_STORAGE_CONF } from '../../../agent/engine/storage-conf.ts';
import { engineUndoSteps } from '../../../agent/engine/undo.ts';
import { plainAct } from '../../../agent/host/acts.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { STORAGE_CONF, STORE_PATH } from '../../../agent/model/places.ts';
import { OWNED_MARK } from '../../../agent/system-files/file.ts';
import { putSystemFiles } from '../../../agent/system-files/put.ts';

const CONF = '[storage]\ndriver = "overlay"\n[storage.options]\n';
const WITH_STORE = `${CONF}additionalimagestores = ["${STORE_PATH}"]\n`;
const BARE: EngineFacts = { storageConf: CONF, units: [], hasSystemd: false, hasProfile: false };
const CRIO = '/etc/crio/crio.conf.d/50-prestage.conf';
const OPTION = `additionalimagestore=${STORE_PATH}`;

/** The options that our drop-in for CRI-O has, beside these files. */
function crioPlan(files: Readonly<Record<string, string>>) {
  const crio = Object.entries(files).map(([path, text]) => ({ path: join('/etc/crio', path), text }));
  const plan = planEngineFiles({ ...BARE, crio }, 'installed');
  return { content: plan.files.find(({ path }) => path === CRIO)?.content, notices: plan.notices };
}

const dropIn = (...options: readonly string[]): string =>
  `${OWNED_MARK}\n[crio]\nstorage_option = [\n${options.map((option) => `  "${option}",\n`).join('')}]\n`;

describe('the files that tell engines of the store', () => {
  it('are storage.conf alone in discovery', () => {
    assert.deepEqual(planEngineFiles({ ...BARE, hasProfile: true, hasSystemd: true }, 'discovery'), {
      files: [{ path: '/etc/containers/storage.conf', content: WITH_STORE, how: 'edit' }],
      notices: [],
    });
  });

  it('are only files of our own on the installed node', () => {
    const facts = { ...BARE, crio: [], units: ['a.service', 'b@.service'], hasSystemd: true, hasProfile: true };
    const { files, notices } = planEngineFiles(facts, 'installed');
    assert.deepEqual(notices, []);
    const unit = `${OWNED_MARK}\n[Service]\nEnvironment=CONTAINERS_STORAGE_CONF=${STORAGE_CONF}\n`;
    assert.deepEqual(
      files.map(({ path, content, mode, how }) => [path, content, mode, how]),
      [
        [
          STORAGE_CONF,
          `${OWNED_MARK}\n# The settings of /etc/containers/storage.conf, with one more additional image store.\n${WITH_STORE}`,
          0o644,
          'add',
        ],
        [CRIO, dropIn(OPTION), 0o644, 'add'],
        ['/run/systemd/system/a.service.d/50-prestage.conf', unit, 0o644, 'add'],
        ['/run/systemd/system/b@.service.d/50-prestage.conf', unit, 0o644, 'add'],
        [
          '/etc/profile.d/50-prestage.sh',
          `${OWNED_MARK}\nif [ "\${EUID:-$(id -u)}" = 0 ] && [ -r ${STORAGE_CONF} ]; then\n  export CONTAINERS_STORAGE_CONF=${STORAGE_CONF}\nfi\n`,
          0o644,
          'add',
        ],
      ],
    );
  });

  for (const stage of ['discovery', 'installed'] as const) {
    it(`are none where storage.conf has the store already (${stage})`, () => {
      const facts = { ...BARE, storageConf: WITH_STORE, crio: [], units: ['a.service'], hasProfile: true };
      assert.deepEqual(planEngineFiles(facts, stage), { files: [], notices: [] });
    });
  }
});

describe('the drop-in for CRI-O', () => {
  it('keeps the options of the files before it, once each', () => {
    const files = {
      'crio.conf': '[crio]\nstorage_option = ["overlay.mountopt=nodev", "a=\\"b\\""]\n',
      'crio.conf.d/00-default': '[crio]\ninternal_wipe = true\n[crio.api]\nstream_port = "0"\n',
      'crio.conf.d/10-more': '[crio]\nstorage_option = ["overlay.mountopt=nodev", "c=d"]\n',
      'crio.conf.d/20-none': '',
    };
    assert.deepEqual(crioPlan(files), { content: dropIn('overlay.mountopt=nodev', 'a=\\"b\\"', 'c=d', OPTION), notices: [] });
  });

  it('comes with a notice where a later file has options, too', () => {
    assert.deepEqual(crioPlan({ 'crio.conf.d/99-last': '[crio]\nstorage_option = ["c=d"]\n' }), {
      content: dropIn(OPTION),
      notices: [
        `/etc/crio/crio.conf.d/99-last has storage_option and comes after ${CRIO}: an older CRI-O uses only that list, without our store`,
      ],
    });
  });

  for (const spelling of [OPTION, `overlay.${OPTION}`, `overlay.imagestore=${STORE_PATH}`]) {
    it(`is not there where another file has "${spelling}"`, () => {
      assert.deepEqual(crioPlan({ 'crio.conf.d/99-last': `[crio]\nstorage_option = ["${spelling}"]\n` }), {
        content: undefined,
        notices: [],
      });
    });
  }

  it('comes with a notice where a file cannot be read', () => {
    const { content, notices } = crioPlan({ 'crio.conf': '[crio', 'crio.conf.d/10-list': '[crio]\nstorage_option = "c=d"\n' });
    assert.equal(content, dropIn(OPTION));
    assert.deepEqual(
      notices.map((notice) => notice.split(': ')[0]),
      ['crio.conf', 'crio.conf.d/10-list'].map((path) => `/etc/crio/${path} cannot be read, so its storage options are unknown`),
    );
  });
});

async function nodeWith(t: { after(act: () => Promise<void>): void }, files: Readonly<Record<string, string>>) {
  const root = await mkdtemp(join(tmpdir(), 'engine-'));
  t.after(async () => await rm(root, { recursive: true }));
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(root, dirname(path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
  return { root, host: linuxHost({ root, env: {}, log: () => {} }) };
}

test('the facts are those of the node, with all units that start podman or skopeo, by themselves or by a script', async (t) => {
  const script = '#!/bin/bash\n# no comment counts\nuntil podman pull x; do :; done\n';
  const { root, host } = await nodeWith(t, {
    '/usr/share/containers/storage.conf': CONF,
    '/etc/crio/crio.conf.d/00-default': '[crio]\n',
    '/etc/crio/crio.conf.d/50-prestage.conf': 'ours',
    '/etc/profile.d/a.sh': '',
    '/run/systemd/system/at-runtime.service': '[Service]\nExecStartPre = -/usr/bin/skopeo copy a b\n',
    '/etc/systemd/system/pull.service': '[Service]\nExecStart=/bin/sh -c "while ! /usr/bin/podman pull x; do :; done"\n',
    '/etc/systemd/system/next-line.service': '[Service]\nExecStart=/bin/env \\\n  A=b \\\n  podman pull x\n',
    '/etc/systemd/system/prestage-registry.service': '[Service]\nExecStart=podman run x\n',
    '/etc/systemd/system/pull.service.d/10.conf': '[Service]\n',
    '/etc/systemd/system/dropped.service': '[Service]\nExecStart=/bin/true\n',
    '/etc/systemd/system/dropped.service.d/10.conf': '[Service]\nExecStartPre=podman pull x\n',
    '/etc/systemd/system/dropped.service.d/note': '[Service]\nExecStartPre=podman pull x\n',
    '/etc/systemd/system/note.timer': 'ExecStart=podman\n',
    '/usr/lib/systemd/system/other.service': '[Unit]\nDescription=podman\n[Service]\nExecStart=/usr/bin/podmanual\n# ExecStart=podman\n',
    '/usr/lib/systemd/system/podman.service': '[Service]\nExecStart=/usr/bin/podman system service\n',
    '/usr/local/bin/prepend.sh': script,
    '/etc/systemd/system/in-script.service': '[Service]\nExecStart=/bin/bash -c "until /usr/local/bin/prepend.sh; do :; done"\n',
    '/etc/systemd/system/in-script@.service': '[Service]\nExecStart=-@/usr/local/bin/prepend.sh name\n',
    '/usr/local/bin/comment.sh': '#!/bin/sh\n # podman is not started here\n:\n',
    '/etc/systemd/system/in-comment.service': '[Service]\nExecStart=/usr/local/bin/comment.sh\n',
    '/usr/local/bin/program': `\u007fELF ${script}`,
    '/etc/systemd/system/program.service': '[Service]\nExecStart=/usr/local/bin/program /usr/local/bin/circle /usr/local\n',
    '/etc/systemd/system/crio.service': '[Service]\nExecStartPre=/usr/local/bin/prepend.sh\nExecStart=/usr/bin/crio\n',
    '/etc/systemd/system/crio.service.d/10.conf': '[Service]\nExecStartPre=podman images\n',
    '/etc/systemd/system/crio-wipe.service': '[Service]\nExecStart=/usr/local/bin/prepend.sh\n',
  });
  await symlink('/dev/null', join(root, 'etc/systemd/system/masked.service'));
  await symlink('circle', join(root, 'usr/local/bin/circle'));
  assert.deepEqual(engineFacts(host, 'installed'), {
    storageConf: CONF,
    crio: [{ path: '/etc/crio/crio.conf.d/00-default', text: '[crio]\n' }],
    units: [
      'NetworkManager-dispatcher.service',
      'at-runtime.service',
      'dropped.service',
      'in-script.service',
      'in-script@.service',
      'machine-config-daemon-firstboot.service',
      'machine-config-daemon-host.service',
      'machine-config-daemon-pull.service',
      'next-line.service',
      'nodeip-configuration.service',
      'podman.service',
      'pull.service',
      'rpm-ostreed.service',
    ],
    hasSystemd: true,
    hasProfile: true,
  });
  await writeFile(join(root, 'etc/crio/crio.conf'), '[crio.api]\n');
  assert.deepEqual(
    engineFacts(host, 'installed').crio?.map(({ path }) => path),
    ['/etc/crio/crio.conf', '/etc/crio/crio.conf.d/00-default'],
  );
});

test('a bare node has the defaults of containers-storage', async (t) => {
  const { host } = await nodeWith(t, {});
  assert.deepEqual(engineFacts(host, 'installed'), { ...BARE, storageConf: DEFAULT_STORAGE_CONF });
});

test('the second time nothing is written, whatever the stage', async (t) => {
  for (const stage of ['discovery', 'installed'] as const) {
    const { host } = await nodeWith(t, { '/etc/crio/crio.conf': '', '/etc/profile.d/a.sh': '', '/run/systemd/system/x.service': '' });
    assert.equal((await setUpEngines(host, { stage, act: plainAct })).changed.length, stage === 'discovery' ? 1 : 9);
    assert.deepEqual(await setUpEngines(host, { stage, act: plainAct }), { changed: [], notices: [] });
  }
});

test('a release takes the agent’s lines out of files that somebody changed since, and keeps the change', async (t) => {
  const [storage, registries] = ['etc/containers/storage.conf', 'etc/containers/registries.conf'];
  const { root, host } = await nodeWith(t, { [storage]: CONF, [registries]: 'short-name-mode = "disabled"\n' });
  await setUpEngines(host, { stage: 'discovery', act: plainAct });
  const rewritten = ['short-name-mode = "disabled"', ...markedLines(['[[registry]]', 'prefix = "quay.io/a"']), ''].join('\n');
  await putSystemFiles(host, [{ path: `/${registries}`, content: rewritten, how: 'edit' }], plainAct);
  for (const path of [storage, registries]) await appendFile(join(root, path), '# theirs\n');
  const steps = await engineUndoSteps(host);
  assert.deepEqual(
    steps.map(({ text }) => text),
    [
      `remove the agent’s part from /${registries}, which somebody has changed since`,
      `remove the agent’s part from /${storage}, which somebody has changed since`,
      'forget which system files were changed',
    ],
  );
  for (const { run } of steps) await run();
  assert.equal(await readFile(join(root, registries), 'utf8'), 'short-name-mode = "disabled"\n# theirs\n');
  assert.equal(await readFile(join(root, storage), 'utf8'), `${CONF}additionalimagestores = []\n# theirs\n`);
  assert.deepEqual(await engineUndoSteps(host), []);
});
