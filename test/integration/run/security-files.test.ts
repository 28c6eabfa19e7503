import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { type Cluster, openCluster } from '../../support/cluster.ts';
import { type DataDisk, type MountNode, makeDataDisk, mountNodesUnavailable, openMountNode } from '../../support/mount-node.ts';
import { makeRegistryFixture, type RegistryFixture } from '../../support/registry-node.ts';
import type { SandboxOptions } from '../../support/sandbox.ts';

const unavailable = await mountNodesUnavailable();
const TLS = '/etc/prestage-agent/tls';

/** What a run may leave on a node outside the storage of engines: each path with its kind (find(1), %y) and mode. The first that fits counts. */
const ALLOWED: readonly (readonly [path: RegExp, kindAndMode: string])[] = [
  [/^\/run\/prestage-agent$/, 'd 755'],
  [/^\/run\/prestage-agent\/((check\.)?lock(\.holder)?|writers\.lock|(check|state|store)\.json|storage\.conf|crio-told)$/, 'f 644'],
  [/^\/run\/prestage-agent\/(ram|data|partition)$/, 'd 700'],
  [/^\/run\/prestage-agent\/ram\/store\.(squashfs|verity)$/, 'f 644'],
  // The registry's own storage, its log and its key are for root alone, whatever podman does below.
  [/^\/run\/prestage-agent\/registry$/, 'd 700'],
  [/^\/run\/prestage-agent\/registry\/tls\.key$/, 'f 600'],
  [/^\/run\/prestage-agent\/registry\/(config\.yaml|registry\.json|tls\.crt)$/, 'f 644'],
  [/^\/var\/lib\/prestage-agent$/, 'd 755'],
  [/^\/var\/lib\/prestage-agent\/(state|surveys|setup)\.json$/, 'f 644'],
  [/^\/var\/lib\/prestage-agent\/backup$/, 'd 755'],
  [/^\/var\/lib\/prestage-agent\/backup\/[0-9a-f]{64}\.json$/, 'f 600'],
  [/^\/var\/lib\/prestage-agent\/(images|bundle|registry-image)$/, 'd 700'],
  [/^\/var\/lib\/prestage-agent\/images\/[0-9a-f]{64}\.(squashfs|verity)$/, 'f 644'],
  [/^\/etc\/containers\/storage\.conf$/, 'f 644'],
  [/^\/etc\/containers\/registries\.conf$/, 'f 640'],
  [/^\/etc\/containers\/registries\.conf\.d$/, 'd 755'],
  [/^\/etc\/containers\/registries\.conf\.d\/50-prestage\.conf$/, 'f 644'],
  [/^\/etc\/containers\/certs\.d(\/192\.0\.2\.1:305)?$/, 'd 755'],
  [/^\/etc\/containers\/certs\.d\/192\.0\.2\.1:305\/ca\.crt$/, 'f 644'],
  [/^\/etc\/profile\.d\/50-prestage\.sh$/, 'f 644'],
];
/** Content that everybody may read, of the same modes throughout. */
const TREES = /^\/(run\/prestage-agent\/mirror|var\/lib\/prestage-agent\/(store|registry|bundle\/[^/]+))(\/|$)/;
/** In a tree, configs and layers that stay on the partition. */
const LINKS = /^\/run\/prestage-agent\/mirror\/docker\/registry\/v2\/blobs\/sha256\/[0-9a-f]{2}\/[0-9a-f]{64}$/;
/** Engines make these with modes of their own: in directories of root, or not for the agent. */
const OF_ENGINES =
  /^\/run\/prestage-agent\/registry\/(storage|run|tmp|pid|registry\.log)(\/|$)|^\/var\/lib\/prestage-agent\/registry-image\/|^\/etc\/cni(\/|$)/;
const CHANGED = '/etc /etc/containers /etc/profile.d /etc/prestage-agent';

const runs: Readonly<Record<string, { readonly args: readonly string[]; readonly tls?: boolean }>> = {
  'mount from memory': { args: ['--stage', 'discovery', '--delivery', 'mount'] },
  'mount from the partition': { args: ['--stage', 'installed', '--delivery', 'mount'] },
  'mount from the disk': { args: ['--stage', 'installed', '--delivery', 'mount', '--placement', 'disk'] },
  'mount with registries.conf rewritten': { args: ['--stage', 'discovery', '--delivery', 'mount', '--rewrite', 'yes'] },
  extract: { args: ['--stage', 'installed', '--delivery', 'extract'] },
  registry: { args: ['--stage', 'installed', '--delivery', 'registry'] },
  'registry for the cluster': {
    args: ['--stage', 'installed', '--delivery', 'registry', '--serve', 'cluster', '--serve-address', '192.0.2.1'],
    tls: true,
  },
};

function modeInTree(path: string, kindAndMode: string): string | undefined {
  if (!TREES.test(path)) return undefined;
  if (kindAndMode.startsWith('l') && LINKS.test(path)) return 'l 777';
  return kindAndMode.startsWith('d') ? 'd 755' : 'f 644';
}

describe('what a run leaves on a node', () => {
  let fixture: RegistryFixture;
  let disk: DataDisk;
  let cluster: Cluster;
  let tls: Readonly<Record<string, string>>;
  before(async () => {
    if (unavailable !== undefined) return;
    fixture = await makeRegistryFixture();
    disk = await makeDataDisk({ ...fixture, bundle: await fixture.bundleOf(['store', 'oci', 'registry']) }, 500);
    cluster = await openCluster(1);
    const directory = join(fixture.work, 'tls');
    await promisify(execFile)(fixture.executable, ['certificates', '--directory', directory, '--address', '192.0.2.1']);
    tls = Object.fromEntries(
      await Promise.all(
        ['192.0.2.1.crt', '192.0.2.1.key', 'ca.crt'].map(async (name) => [name, await readFile(join(directory, name), 'utf8')]),
      ),
    );
  });
  after(async () => {
    await disk?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
    await fixture?.[Symbol.asyncDispose]();
  });

  const options = (hasTls: boolean): SandboxOptions => ({
    files: {
      '/etc/containers/registries.conf': { content: 'unqualified-search-registries = ["quay.io"]\n', mode: 0o640 },
      ...(hasTls && {
        [`${TLS}/registry.crt`]: tls['192.0.2.1.crt'] ?? '',
        [`${TLS}/registry.key`]: { content: tls['192.0.2.1.key'] ?? '', mode: 0o600 },
        [`${TLS}/ca.crt`]: tls['ca.crt'] ?? '',
      }),
    },
    ...(hasTls && { network: cluster.nodes[0]?.network ?? '' }),
  });

  /** `PATH KIND MODE OWNER` of all that is newer than the start of the run, but for what is mounted. */
  async function changed(node: MountNode): Promise<readonly (readonly [path: string, kindAndMode: string, owner: string])[]> {
    const places = '/etc /run/prestage-agent /var/lib/prestage-agent';
    const listed = await node.output('sh', ['-c', `find ${places} -newer /var/tmp/start -printf '%p\\t%y %m\\t%U:%G\\n'`]);
    const mounts = await node.ourMounts();
    const isMounted = (path: string): boolean => mounts.some((mount) => path === mount || path.startsWith(`${mount}/`));
    const known = new Set(CHANGED.split(' '));
    return listed
      .split('\n')
      .map((line) => line.split('\t'))
      .flatMap(([path = '', kindAndMode = '', owner = '']) =>
        isMounted(path) || known.has(path) || OF_ENGINES.test(path) ? [] : [[path, kindAndMode, owner] as const],
      );
  }

  it('can be looked at by every user, also if the first command was verify', async (t) => {
    if (unavailable !== undefined) return t.skip(unavailable);
    await using node = await openMountNode(fixture);
    const { exitCode, stdout } = await node.exec(fixture.executable, ['verify', disk.partition, '--quick']);
    assert.equal(exitCode, 0, stdout);
    assert.equal(await node.output('stat', ['-c', '%a', '/run/prestage-agent']), '755');
  });

  for (const umask of ['0000', '0077']) {
    for (const [what, { args, tls: hasTls = false }] of Object.entries(runs)) {
      it(`is as the table says, with a umask of ${umask}: ${what}`, async (t) => {
        if (unavailable !== undefined) return t.skip(unavailable);
        await using node = await openMountNode(fixture, options(hasTls));
        await node.output('sh', ['-c', 'touch /var/tmp/start; sleep 0.02']);
        const command = [fixture.executable, 'run', ...args, '--label', disk.label, '--policy', 'closed'];
        const { exitCode, stderr } = await node.exec('sh', ['-c', `umask ${umask}; exec "$@"`, 'sh', ...command]);
        assert.equal(exitCode, 0, stderr);
        const left = await changed(node);
        assert.ok(left.length > 4, JSON.stringify(left));
        assert.equal(
          left.some(([path]) => path === '/run/prestage-agent/registry/tls.key'),
          hasTls,
        );
        const wrong = left.filter(([name, kindAndMode, owner]) => {
          // The check behind the boot goes on: what it is writing has the mode of what it will be.
          const path = name.replace(/\/\.([^/]+)\.[0-9a-f]{12}\.tmp$/, '/$1');
          const wanted = ALLOWED.find(([place]) => place.test(path))?.[1] ?? modeInTree(path, kindAndMode);
          return kindAndMode !== wanted || owner !== '0:0';
        });
        assert.deepEqual(wrong, []);
      });
    }
  }
});
