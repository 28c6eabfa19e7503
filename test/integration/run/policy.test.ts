import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { PayloadKind } from '../../../agent/factory/compose/plan.ts';
import { OWNED_MARK } from '../../../agent/system-files/file.ts';
import { listOf, runBuild } from '../../support/build.ts';
import { writeOciLayout } from '../../support/images.ts';
import {
  type DataDisk,
  type MountFixture,
  type MountNode,
  makeDataDisk,
  makeMountFixture,
  mountNodesUnavailable,
  openMountNode,
} from '../../support/mount-node.ts';
import { nodeUsr } from '../../support/podman-service.ts';
import { POLICY_FILE, putFile, putPolicy, sigstoreDemand } from '../../support/policies.ts';
import { attachSignatures, makeSigningKey, type SigningKey } from '../../support/signing.ts';

const unavailable = await mountNodesUnavailable();
const TOOL = 'quay.io/example/tool';
const COMPONENT = 'quay.io/example/component';
const DROP_IN = '/etc/containers/registries.conf.d/50-prestage.conf';
const PLACES = '/etc/containers/registries.d/50-prestage.yaml';

describe('a node whose policy demands signatures', { skip: unavailable ?? false }, () => {
  let fixture: MountFixture;
  let signed: DataDisk;
  let plain: DataDisk;
  const key = makeSigningKey('rsa');

  before(async () => {
    fixture = await makeMountFixture(['oci']);
    const { tag, list } = fixture.images;
    const attachments = [
      ...(await attachSignatures(fixture.blobs, tag, { key, reference: tag.reference })),
      ...(await attachSignatures(fixture.blobs, list, { key, reference: `${TOOL}:signed` })),
    ];
    const bundleOf = async (name: string, withSignatures: boolean): Promise<DataDisk> => {
      const pulled = join(fixture.work, `${name}-pulled`);
      await mkdir(pulled);
      await writeOciLayout(fixture.blobs, withSignatures ? [...fixture.all, ...attachments] : fixture.all, pulled);
      await writeFile(join(pulled, 'ocp-images.txt'), listOf(fixture.all));
      const bundle = join(fixture.work, name);
      const payloads: readonly PayloadKind[] = ['store', 'registry', 'oci'];
      await runBuild({ from: pulled, to: bundle, payloads });
      return await makeDataDisk({ work: fixture.work, bundle });
    };
    signed = await bundleOf('signed', true);
    plain = await bundleOf('plain', false);
  });
  after(async () => {
    await signed?.[Symbol.asyncDispose]();
    await plain?.[Symbol.asyncDispose]();
    await fixture?.[Symbol.asyncDispose]();
  });

  const demand = async (node: MountNode, by: SigningKey): Promise<void> => await putPolicy(node, { [TOOL]: sigstoreDemand(by) });
  const textAt = async (node: MountNode, path: string): Promise<string> => await readFile(node.path(path), 'utf8').catch(() => '');
  /** As a unit of the node does, which is told of the store where there is one. */
  const pull = async (node: MountNode, name: string) => {
    const conf = '/run/prestage-agent/storage.conf';
    const env = existsSync(node.path(conf)) ? { CONTAINERS_STORAGE_CONF: conf } : {};
    return await node.exec('podman', ['pull', name], { env });
  };
  /** The repositories that get a mirror of ours. */
  const mirrored = async (node: MountNode): Promise<readonly string[]> =>
    [...(await textAt(node, DROP_IN)).matchAll(/^prefix = "(.*)"$/gm)].map(([, prefix = '']) => prefix);

  for (const delivery of ['mount', 'registry'] as const) {
    const args = (data: DataDisk): readonly string[] => ['--stage', 'installed', '--delivery', delivery, '--label', data.label];

    it(`gets no mirror by ${delivery} of what the bundle has no signatures of, and status says so`, async () => {
      await using node = await openMountNode(fixture);
      await demand(node, key);
      const { exitCode, state, stderr } = await node.run([...args(plain), '--block-source', 'yes']);
      assert.deepEqual([exitCode, state.outcome, state.error], [0, 'complete', undefined], stderr);
      assert.equal((await mirrored(node)).includes(TOOL), false);
      assert.equal((await mirrored(node)).includes(COMPONENT), true);
      assert.equal(state.withheld?.code, 'ERR_MIRROR_UNSIGNED');
      assert.match(
        state.withheld?.message ?? '',
        /^engines would refuse images of 1 repository from our mirror, .*: quay\.io\/example\/tool \(\/etc\/containers\/policy\.json, "quay\.io\/example\/tool": .*: the policy requires a sigstore signature, but the image has none\)$/,
      );
      const status = await node.status();
      assert.deepEqual([status.readiness, status.exitCode, status.reason], ['degraded', 13, state.withheld?.message]);
      assert.equal(await textAt(node, PLACES), '');
    });

    it(`gets every mirror by ${delivery} when the bundle has them, and engines are led to them until release`, async () => {
      await using node = await openMountNode(fixture);
      await demand(node, key);
      const { exitCode, state, stderr } = await node.run(args(signed));
      assert.deepEqual([exitCode, state.outcome, state.withheld], [0, 'complete', undefined], stderr);
      assert.equal((await mirrored(node)).includes(TOOL), true);
      assert.equal(
        await textAt(node, PLACES),
        `${OWNED_MARK}\n# Signatures lie beside the images that the registries of prestage-agent serve.\ndocker:\n  "127.0.0.1:305":\n    use-sigstore-attachments: true\n`,
      );
      assert.equal((await node.status()).readiness, 'ready');
      const again = await node.run(args(signed));
      assert.deepEqual([again.exitCode, again.state.withheld], [0, undefined], again.stderr);
      await node.output(fixture.executable, ['release', '--yes']);
      assert.equal(await textAt(node, PLACES), '');
    });

    it(`has podman of today pull offline by ${delivery} under that policy, by tag and by the digest of a list`, async () => {
      await using node = await openMountNode(fixture, { usr: await nodeUsr() });
      await demand(node, key);
      const { exitCode, state, stderr } = await node.run(args(signed));
      assert.deepEqual([exitCode, state.outcome, state.withheld], [0, 'complete', undefined], stderr);
      const { tag, list } = fixture.images;
      for (const name of [tag.reference, `${TOOL}@${list.digest}`]) {
        const pulled = await pull(node, name);
        assert.equal(pulled.exitCode, 0, pulled.stderr);
      }
      // The policy does decide: under another key the same pull is refused.
      await demand(node, makeSigningKey());
      const refused = await pull(node, tag.reference);
      assert.notEqual(refused.exitCode, 0);
      assert.match(refused.stderr, /rejected|signature/i);
    });

    it(`gets no mirror by ${delivery} if the signatures are of another key, or another file keeps engines from them`, async () => {
      await using node = await openMountNode(fixture);
      await demand(node, makeSigningKey());
      const { state } = await node.run(args(signed));
      assert.match(state.withheld?.message ?? '', /the signature was made with another key\)$/);
      assert.equal((await mirrored(node)).includes(TOOL), false);
      await demand(node, key);
      await putFile(
        node,
        '/etc/containers/registries.d/10-other.yaml',
        'docker:\n  "127.0.0.1:305":\n    lookaside: https://other.example\n',
      );
      const beside = await node.run(args(signed));
      assert.equal(beside.state.withheld?.code, 'ERR_MIRROR_UNSIGNED');
      assert.ok(
        beside.state.notices.includes(
          `engines do not look for signatures at the registry of this node, because ${PLACES} cannot be added: /etc/containers/registries.d/10-other.yaml has the key "127.0.0.1:305" without use-sigstore-attachments`,
        ),
        beside.state.notices.join('\n'),
      );
      assert.equal(await textAt(node, PLACES), '');
    });
  }

  it('boots without mirrors if the policy cannot be read, and says which file', async () => {
    await using node = await openMountNode(fixture);
    await putFile(node, '/etc/crio/policies/team.json', '{');
    const { exitCode, state, stderr } = await node.run(['--stage', 'installed', '--delivery', 'registry', '--label', signed.label]);
    assert.deepEqual([exitCode, state.outcome, state.withheld?.code], [0, 'complete', 'ERR_POLICY_FILE'], stderr);
    assert.match(state.withheld?.message ?? '', /^\/etc\/crio\/policies\/team\.json: document: is not JSON; /);
    assert.deepEqual(await mirrored(node), []);
    assert.equal((await node.status()).readiness, 'degraded');
  });

  it('says that engines pull nothing without a policy, and is ready once there is one', async () => {
    await using node = await openMountNode(fixture);
    await rm(node.path(POLICY_FILE));
    const { exitCode, state, stderr } = await node.run(['--stage', 'installed', '--delivery', 'registry', '--label', plain.label]);
    assert.deepEqual([exitCode, state.outcome, state.missingPolicy?.code], [0, 'complete', 'ERR_POLICY_MISSING'], stderr);
    const message =
      '/etc/containers/policy.json is missing, and without it engines refuse every pull, from our mirrors and from anywhere else';
    assert.ok(
      state.notices.some((notice) => notice.startsWith(`${message}. Restore `)),
      state.notices.join('\n'),
    );
    const { reference } = fixture.images.tag;
    assert.match((await pull(node, reference)).stderr, /policy\.json: no such file/);
    const before = await node.status();
    assert.deepEqual([before.readiness, before.reason, before.exitCode], ['degraded', message, 13]);
    await putPolicy(node, {});
    const pulled = await pull(node, reference);
    assert.deepEqual([pulled.exitCode, (await node.status()).readiness], [0, 'ready'], pulled.stderr);
  });
});
