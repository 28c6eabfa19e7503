import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { holdersOf, type MountNode, openMountNode } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';

/** Somebody who may log in on the node. */
const USER = 1000;
/** Where a planted link leads: nothing may be written, mounted or deleted there. */
const ELSEWHERE = '/var/tmp/elsewhere';

/** What somebody planted before the run, and what the agent says of it. */
const planted: readonly { readonly what: string; readonly plant: string; readonly code: string; readonly says: RegExp }[] = [
  ...[
    '/run/prestage-agent',
    '/var/lib/prestage-agent',
    '/var/lib/prestage-agent/store',
    '/var/lib/prestage-agent/images',
    '/run/prestage-agent/partition',
    '/run/prestage-agent/data',
    '/run/prestage-agent/ram',
    '/run/prestage-agent/mirror',
    '/run/prestage-agent/registry',
    '/run/prestage-agent/state.json',
  ].map((path) => ({
    what: `${path} is a symbolic link`,
    plant: `mkdir -p "$(dirname ${path})" && ln -sfn ${ELSEWHERE} ${path}`,
    code: 'ERR_PLACE',
    says: new RegExp(`^${path} is a symbolic link: `),
  })),
  {
    what: 'the place of the store belongs to a user',
    plant: `mkdir -p /var/lib/prestage-agent/store && chown ${USER} /var/lib/prestage-agent/store`,
    code: 'ERR_PLACE',
    says: /^\/var\/lib\/prestage-agent\/store belongs to user 1000: /,
  },
  {
    what: 'everybody may write to the place of the records',
    plant: 'mkdir -p /run/prestage-agent && chmod 1777 /run/prestage-agent',
    code: 'ERR_PLACE',
    says: /^\/run\/prestage-agent is writable for other users \(mode 1777\): /,
  },
  {
    what: 'a group of users may write to the state',
    plant: `mkdir -p /var/lib/prestage-agent && cd /var/lib/prestage-agent && touch state.json && chgrp ${USER} state.json && chmod 664 state.json`,
    code: 'ERR_PLACE',
    says: /^\/var\/lib\/prestage-agent\/state\.json is writable for other users \(mode 664\): /,
  },
  ...[
    {
      what: 'is a symbolic link',
      plant: `ln -sfn ${ELSEWHERE} /etc/containers/registries.conf.d`,
      says: /is reached through the symbolic link/,
    },
    {
      what: 'belongs to a user',
      plant: `mkdir /etc/containers/registries.conf.d && chown ${USER} /etc/containers/registries.conf.d`,
      says: /registries\.conf\.d belongs to user 1000/,
    },
    {
      what: 'can be written by everybody',
      plant: 'mkdir -m 777 /etc/containers/registries.conf.d',
      says: /registries\.conf\.d is writable for other users \(mode 777\)/,
    },
  ].map(({ what, plant, says }) => ({ what: `/etc/containers/registries.conf.d ${what}`, plant, code: 'ERR_SYSTEM_FILE', says })),
];

describe('what somebody planted where the agent writes and mounts', () => {
  let node: MountNode;
  const suite = mountSuite({
    prepare: async ({ fixture, use }) => {
      node = use(await openMountNode(fixture));
      // A mount cannot be replaced by a link.
      await node.output('sh', ['-c', 'umount /var/lib/prestage-agent && rm -rf /var/lib/prestage-agent']);
      await node.output('sh', [
        '-c',
        `mkdir -p ${ELSEWHERE}/below && echo kept > ${ELSEWHERE}/below/file && chown -R ${USER} ${ELSEWHERE}`,
      ]);
    },
  });
  const elsewhere = async (): Promise<string> =>
    await node.output('sh', [
      '-c',
      `cd ${ELSEWHERE} && find . -printf '%p %M %U %s %T@\n' | sort && cat below/file && grep ${ELSEWHERE} /proc/mounts || true`,
    ]);

  for (const { what, plant, code, says } of planted) {
    suite.it(`is refused: ${what}`, async () => {
      const untouched = await elsewhere();
      await node.output('sh', ['-c', plant]);
      const { exitCode, stdout, stderr } = await node.agent([
        'run',
        '--stage',
        'discovery',
        '--label',
        suite.disk.label,
        '--output',
        'json',
      ]);
      const { error }: { readonly error: { readonly code: string; readonly message: string } } = JSON.parse(
        code === 'ERR_PLACE' ? stderr : stdout,
      );
      assert.deepEqual([exitCode, error.code], [4, code], stderr);
      assert.match(error.message, says);
      assert.equal(await elsewhere(), untouched);
      if (code === 'ERR_PLACE') assert.deepEqual(await node.ourMounts(), []);
      assert.equal((await node.agent(['release', '--yes'])).exitCode, code === 'ERR_PLACE' ? 4 : 0);
      assert.equal(await elsewhere(), untouched);
      assert.deepEqual(await holdersOf(suite.disk), []);
      await node.output('rm', ['-rf', '/run/prestage-agent', '/var/lib/prestage-agent', '/etc/containers/registries.conf.d']);
    });
  }

  suite.it('and what a run itself has left is taken by the next', async () => {
    for (const _ of [1, 2]) assert.equal((await node.agent(['run', '--stage', 'discovery', '--label', suite.disk.label])).exitCode, 0);
  });
});
