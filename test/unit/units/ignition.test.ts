import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { PrestageError } from '../../../agent/model/errors.ts';
import { type IgnitionOptions, type IgnitionOutcome, runIgnition } from '../../../agent/units/ignition.ts';
import { assertGolden } from '../../support/golden.ts';
import { author, ourIgnition, PIN } from '../../support/ignition.ts';

let scratch = '';
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'ignition-command-'));
});
after(() => rm(scratch, { recursive: true, force: true }));

async function override(name: string, content: unknown): Promise<string> {
  const path = join(scratch, name);
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

function render(options: Partial<IgnitionOptions>): Promise<IgnitionOutcome> {
  return runIgnition({ stage: 'discovery', agentSha256: PIN, ...options }, author);
}

async function refused(options: Partial<IgnitionOptions>): Promise<PrestageError> {
  try {
    await render(options);
  } catch (error) {
    if (error instanceof PrestageError) return error;
    throw error;
  }
  return assert.fail('it was not refused');
}

test('by default the discovery override is 3.1.0, the installed one 3.2.0, with the label data and the policy open', async () => {
  assert.deepEqual(await render({}), { text: `${JSON.stringify(ourIgnition('discovery'), undefined, 2)}\n`, warnings: [] });
  assert.deepEqual(await render({ stage: 'installed' }), {
    text: `${JSON.stringify(ourIgnition('installed', { spec: '3.2.0' }), undefined, 2)}\n`,
    warnings: [],
  });
});

test('--spec, --label and --policy go into the override', async () => {
  const options = { spec: '3.2.0', label: 'factory', policy: 'closed' } as const;
  assert.deepEqual(await render(options), { text: `${JSON.stringify(ourIgnition('discovery', options), undefined, 2)}\n`, warnings: [] });
});

test('without a pin a warning says that nothing of the partition is executed', async () => {
  const { warnings } = await runIgnition({ stage: 'installed' }, author);
  assert.deepEqual(warnings, [
    'without --agent-sha256 the launcher runs no executable from the partition, only one that already exists at /usr/local/bin/prestage-agent',
  ]);
});

test('an override that destroys the data partition is refused by its path, and is a warning if that depends on the disk', async () => {
  const storage = {
    disks: [{ device: '/dev/sda', wipeTable: true }],
    filesystems: [{ device: '/dev/disk/by-partlabel/data', format: 'xfs', wipeFilesystem: true }],
  };
  const merge = await override('wiping.ign', { ignition: { version: '3.2.0' }, storage });
  const { code, message } = await refused({ stage: 'installed', merge });
  assert.deepEqual(
    [code, message],
    [
      'ERR_IGNITION',
      `${merge}: $.storage.filesystems[0].wipeFilesystem: the data partition "data" is formatted, which destroys the bundle`,
    ],
  );
  const { warnings } = await render({ stage: 'installed', label: 'factory', merge });
  assert.deepEqual(warnings, [
    `${merge}: $.storage.disks[0].wipeTable: if the data partition "factory" is on this disk, wiping the table destroys it`,
  ]);
});

test('lists and objects that are null are none, as Ignition reads them', async () => {
  const file = { path: '/etc/x', contents: null, append: null };
  const rest = { links: null, directories: null, luks: null };
  const nulls = { storage: { files: [file], ...rest }, systemd: { units: [{ name: 'a.service', dropins: null }] }, passwd: null };
  const merge = await override('nulls.ign', { ignition: { version: '3.1.0' }, ...nulls });
  const { storage, systemd, passwd } = JSON.parse((await render({ merge })).text);
  assert.deepEqual([storage.files[0], storage.luks, systemd.units[0], passwd], [{ path: '/etc/x' }, null, { name: 'a.service' }, null]);
  const none = await override('none.ign', { ignition: { version: '3.1.0' }, storage: null, systemd: { units: null } });
  assert.deepEqual(JSON.parse((await render({ merge: none })).text), JSON.parse((await render({})).text));
});

test('an existing override is kept with its specification, and ours follows', async () => {
  const merge = await override('existing.ign', {
    ignition: { version: '3.2.0' },
    passwd: { users: [{ name: 'core', sshAuthorizedKeys: ['ssh-ed25519 AAAA'] }] },
    storage: { files: [{ path: '/etc/motd', overwrite: true, contents: { source: 'data:,hello' } }] },
    systemd: {
      units: [
        { name: 'prestage.service', enabled: false },
        { name: 'prestage-agent-old.service', enabled: true },
      ],
    },
  });
  const { text, warnings } = await render({ merge });
  assertGolden('ignition/discovery.merged.ign.json', text);
  assert.deepEqual(warnings, [
    'prestage-agent-old.service was a leftover of prestage-agent in the override and was removed',
    'the override replaces /etc/motd of the Assisted Installer',
  ]);
});

test('faults of the existing override are refused with file and JSON path', async () => {
  const merge = await override('faulty.ign', {
    ignition: { version: '3.1.0' },
    storage: { files: [{ path: '/a', mode: 755 }, { path: 'b' }] },
  });
  const error = await refused({ merge });
  assert.deepEqual(
    [error.code, error.message],
    [
      'ERR_IGNITION',
      [
        `${merge} is not a usable ignition override: 2 faults`,
        `${merge}: $.storage.files[1].path: "b" is not absolute`,
        `${merge}: $.storage.files[0].mode: 755 is decimal and means octal 1363; write 493 for octal 0755`,
      ].join('\n'),
    ],
  );
});

test('faults are refused with the places of the file, and those of stale pieces of ours do not count, for they go', async () => {
  const stale = { path: '/usr/local/bin/prestage-old', mode: 755, contents: { source: 'ftp://host/file' } };
  const faulty = { path: '/a', mode: 644 };
  const merge = await override('stale.ign', { ignition: { version: '3.1.0' }, storage: { files: [stale, faulty] } });
  const { message } = await refused({ merge });
  assert.equal(message, `${merge}: $.storage.files[1].mode: 644 is decimal and means octal 1204; write 420 for octal 0644`);
  const only = await override('only-stale.ign', { ignition: { version: '3.1.0' }, storage: { files: [stale] } });
  assert.deepEqual((await render({ merge: only })).warnings, [
    '/usr/local/bin/prestage-old was a leftover of prestage-agent in the override and was removed',
  ]);
});

test('a drop-in that stays on our unit is checked as well', async () => {
  const unit = { name: 'prestage-agent-discovery.service', dropins: [{ name: 'site', contents: '[Service]\n' }] };
  const merge = await override('dropin.ign', { ignition: { version: '3.1.0' }, systemd: { units: [unit] } });
  assert.equal(
    (await refused({ merge })).message,
    'the rendered override: $.systemd.units[0].dropins[0].name: "site" does not end in .conf',
  );
});

test('doubtful places of the existing override are warned of with file and JSON path', async () => {
  const merge = await override('doubtful.ign', {
    ignition: { version: '3.1.0' },
    systemd: { units: [{ name: 'a.service', enabled: true, contents: '[Unit]\n' }] },
  });
  assert.deepEqual((await render({ merge })).warnings, [
    `${merge}: $.systemd.units[0].contents: "a.service" is enabled but has no [Install] section, so nothing starts it`,
  ]);
});

test('an override that is no JSON is refused', async () => {
  const merge = await override('broken.ign', '{"ignition": ');
  const error = await refused({ merge });
  assert.equal(error.code, 'ERR_IGNITION');
  assert.equal(error.message.startsWith(`${merge}: $: it is not JSON: `), true);
});

test('an override that cannot be read is refused', async () => {
  const error = await refused({ merge: join(scratch, 'nowhere.ign') });
  assert.deepEqual([error.code, error.remedy], ['ERR_USAGE', 'Set --merge to the path of a readable ignition file']);
});

test('a specification that is not the override’s is refused', async () => {
  const merge = await override('spec.ign', { ignition: { version: '3.2.0' } });
  const error = await refused({ merge, spec: '3.1.0' });
  assert.deepEqual([error.code, error.message], ['ERR_USAGE', `${merge} has specification 3.2.0, but --spec is 3.1.0`]);
});

test('a discovery override that does not fit into the ISO is refused, an installed one is not embedded there', async () => {
  const source = `data:;base64,${randomBytes(300_000).toString('base64')}`;
  const merge = await override('large.ign', { ignition: { version: '3.1.0' }, storage: { files: [{ path: '/a', contents: { source } }] } });
  assert.equal((await refused({ merge })).code, 'ERR_IGNITION_SIZE');
  assert.deepEqual((await render({ merge, stage: 'installed' })).warnings, []);
});

test('a discovery override that nearly fills the ISO comes with a warning', async () => {
  const source = `data:;base64,${randomBytes(240_000).toString('base64')}`;
  const merge = await override('nearly.ign', {
    ignition: { version: '3.1.0' },
    storage: { files: [{ path: '/a', contents: { source } }] },
  });
  const { warnings } = await render({ merge });
  assert.match(
    warnings.join('\n'),
    /^the override as a gzip'd cpio archive has \d{6} bytes, 9\d % of the limit of 262144, which also includes what the installer adds$/,
  );
});
