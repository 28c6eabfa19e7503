import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { CAPABILITIES } from '../../../agent/host/systemd.ts';
import { builtExecutable } from '../../support/executable.ts';
import { type ImageSet, smallImageSet } from '../../support/image-set.ts';
import { openMountNode } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';
import { type NodeSandbox, openSandbox, type SandboxExecOptions } from '../../support/sandbox.ts';

const MAIN_UNITS = ['prestage-agent-discovery.service', 'prestage-agent-installed.service'];
/** What engines of an installed node have in their environment. */
const ENGINES = { CONTAINERS_STORAGE_CONF: '/run/prestage-agent/storage.conf' };
const REGISTRY_UNITS = ['prestage-registry.service', 'prestage-registry.container'];

/** What a unit lets its processes do at most. */
async function boundsOf(unit: string): Promise<string> {
  const lines = (await readFile(`agent/units/${unit}`, 'utf8')).split('\n').filter((line) => line.startsWith('CapabilityBoundingSet='));
  assert.equal(lines.length, 1, unit);
  return lines[0]?.slice('CapabilityBoundingSet='.length) ?? '';
}

/** setpriv(1) for a process that may do at most this, as root under systemd with that CapabilityBoundingSet. What this machine's root may not do is left out. */
async function under(capabilities: readonly string[]): Promise<readonly string[]> {
  const status = await readFile('/proc/self/status', 'utf8');
  const own = BigInt(`0x${/^CapBnd:\s+([0-9a-f]+)$/m.exec(status)?.[1]}`);
  const numbers = await readFile('/usr/include/linux/capability.h', 'utf8').catch(() => '');
  const isThere = (name: string): boolean => {
    const number = new RegExp(`^#define\\s+${name}\\s+(\\d+)$`, 'm').exec(numbers)?.[1];
    return number === undefined || ((own >> BigInt(number)) & 1n) === 1n;
  };
  const set = capabilities.filter(isThere).map((name) => `+${name.slice('CAP_'.length).toLowerCase()}`);
  return ['setpriv', `--bounding-set=${['-all', ...set].join(',')}`, '--inh-caps=-all'];
}

describe('the capabilities of the units', () => {
  const bounded = CAPABILITIES.split(' ');

  it('are the same in both stages and in the check of a mounted store', async () => {
    for (const unit of MAIN_UNITS) assert.equal(await boundsOf(unit), CAPABILITIES);
    const [unit, quadlet] = await Promise.all(REGISTRY_UNITS.map(boundsOf));
    assert.equal(unit, quadlet);
  });

  it('let nobody load code into the kernel, trace others, change the network, the clock or the limits', () => {
    const never = ['MODULE', 'PTRACE', 'RAWIO', 'BOOT', 'TIME', 'RESOURCE'].map((name) => `CAP_SYS_${name}`);
    assert.deepEqual(
      [...never, 'CAP_NET_ADMIN', 'CAP_NET_RAW', 'CAP_BPF', 'CAP_SETUID', 'CAP_SETGID', 'CAP_MAC_ADMIN', 'CAP_SYSLOG'].filter((name) =>
        bounded.includes(name),
      ),
      [],
    );
  });
});

describe('with no more than the capabilities of its unit', () => {
  const bounded = CAPABILITIES.split(' ');
  let set: ImageSet;
  let executable: string;
  let scratch: string;
  const suite = mountSuite({
    payloads: ['store', 'oci'],
    partitionMiB: 400,
    prepare: async ({ fixture }) => {
      set = await smallImageSet();
      executable = await builtExecutable();
      scratch = join(fixture.work, 'capabilities');
      await mkdir(scratch);
    },
  });
  /** Loads the images of the prototype's folder, which have owners, devices, set-id bits, capabilities and attributes. */
  const extract = async (node: NodeSandbox, bounds: readonly string[]) => {
    return await node.exec('env', [
      ...bounds,
      executable,
      'run',
      '--stage',
      'installed',
      '--bundle',
      set.archives,
      '--policy',
      'closed',
      '--retries',
      '0',
    ]);
  };
  /** What containers see of all layers: names, modes, owners, links, attributes. */
  const layers = async (node: NodeSandbox): Promise<string> =>
    await node.output('sh', [
      '-c',
      `cd /var/lib/containers/storage/overlay
       find . -path './*/diff/*' -printf '%p %y %m %U:%G %l\n' | sort
       find . -path './*/diff/*' -print0 | sort -z | xargs -0 getfattr -h -d -m '^(security|user|trusted)' | grep -v trusted.overlay.origin`,
    ]);

  suite.it('images are loaded as with all', async () => {
    await using bound = await openSandbox();
    await using free = await openSandbox();
    const ended = await extract(bound, await under(bounded));
    assert.equal(ended.exitCode, 0, ended.stderr);
    assert.equal((await extract(free, [])).exitCode, 0);
    const seen = await layers(bound);
    assert.match(seen, /security\.capability=/);
    assert.equal(seen, await layers(free));
  });

  for (const without of ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_MKNOD', 'CAP_SETFCAP']) {
    suite.it(`and without ${without} nothing can be loaded`, async () => {
      await using node = await openSandbox();
      assert.equal((await extract(node, await under(bounded.filter((name) => name !== without)))).exitCode, 4);
    });
  }

  for (const [stage, placement] of [
    ['discovery', 'ram'],
    ['installed', 'partition'],
    ['installed', 'disk'],
  ] as const) {
    suite.it(`a store image is mounted from ${placement}, checked, and given back; the registry is started with its own`, async () => {
      const registry = (await boundsOf('prestage-registry.service')).split(' ');
      await using node = await openMountNode(suite.fixture);
      const [file = '', ...bounds] = await under([...new Set([...bounded, ...registry])]);
      const agent = async (args: readonly string[], options: SandboxExecOptions = {}) =>
        await node.exec(file, [...bounds, executable, ...args], options);
      const args = ['--stage', stage, '--placement', placement, '--label', suite.disk.label, '--policy', 'closed'];
      const run = await agent(['run', ...args]);
      assert.equal(run.exitCode, 0, run.stderr);
      const pulled = await node.exec('podman', ['pull', suite.fixture.images.tag.reference], stage === 'installed' ? { env: ENGINES } : {});
      assert.equal(pulled.exitCode, 0, pulled.stderr);
      assert.equal((await agent(['check-store'])).stdout, 'the mounted store image is intact');
      assert.equal((await agent(['release', '--yes'])).exitCode, 0);
      assert.deepEqual(await node.ourMounts(), []);
    });
  }

  suite.it('a store image is mounted without those of the registry', async () => {
    await using node = await openMountNode(suite.fixture);
    const [file = '', ...bounds] = await under(bounded);
    const args = ['run', '--stage', 'installed', '--label', suite.disk.label, '--policy', 'closed', '--output', 'json'];
    const { stdout } = await node.exec(file, [...bounds, executable, ...args]);
    const state: { readonly error?: { readonly code: string }; readonly images: readonly { readonly state: string }[] } =
      JSON.parse(stdout);
    // Without systemd the run itself starts the container, for which it may do too little.
    assert.equal(state.error?.code, 'ERR_REGISTRY_START');
    assert.deepEqual([...new Set(state.images.map((image) => image.state))], ['present']);
  });

  suite.it('and without CAP_SYS_ADMIN no partition is mounted', async () => {
    await using node = await openSandbox();
    const [file = '', ...bounds] = await under(bounded.filter((name) => name !== 'CAP_SYS_ADMIN'));
    const { exitCode } = await node.exec(file, [
      ...bounds,
      executable,
      'run',
      '--stage',
      'installed',
      '--label',
      suite.disk.label,
      '--policy',
      'closed',
    ]);
    assert.equal(exitCode, 5);
  });

  suite.it('and without CAP_NET_BIND_SERVICE no port below 1024 is found free', async () => {
    const listen =
      "require('node:net').createServer().listen(443, '127.0.0.1', () => process.exit(0)).on('error', (e) => { console.log(e.code); process.exit(1); })";
    const ended = async (capabilities: readonly string[]) => {
      await using node = await openSandbox();
      await node.output('sh', ['-c', 'echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start']);
      const [file = '', ...bounds] = await under(capabilities);
      return (await node.exec(file, [...bounds, process.execPath, '-e', listen])).stdout;
    };
    assert.deepEqual([await ended(bounded), await ended(bounded.filter((name) => name !== 'CAP_NET_BIND_SERVICE'))], ['', 'EACCES']);
  });

  suite.it('and without CAP_KILL a container of another user would go on', async () => {
    await using node = await openSandbox();
    const pid = await node.output('sh', ['-c', 'setpriv --reuid=1000 --clear-groups sleep 60 >/dev/null 2>&1 & sleep 0.3; echo $!']);
    const kill = async (capabilities: readonly string[]) => {
      const [file = '', ...bounds] = await under(capabilities);
      return (await node.exec(file, [...bounds, 'sh', '-c', 'kill "$1"', 'sh', pid])).exitCode;
    };
    assert.deepEqual([await kill(bounded.filter((name) => name !== 'CAP_KILL')), await kill(bounded)], [1, 0]);
  });
});
