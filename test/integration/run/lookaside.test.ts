import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { signaturePath } from '../../../agent/model/bundle.ts';
import { digestOf } from '../../../agent/model/digest.ts';
import { lookasidePath } from '../../../agent/signatures/lookaside.ts';
import { OWNED_MARK } from '../../../agent/system-files/file.ts';
import { listOf, runBuild } from '../../support/build.ts';
import { addGpgSignatures, type GpgKey, makeGpgKey } from '../../support/gpg.ts';
import { makeLayer } from '../../support/image-layer.ts';
import { type MadeImage, makeImage, writeOciLayout } from '../../support/images.ts';
import {
  type DataDisk,
  type MountFixture,
  type MountNode,
  makeDataDisk,
  makeMountFixture,
  mountNodesUnavailable,
  named,
  openMountNode,
} from '../../support/mount-node.ts';
import { putFile, putPolicy, RHEL_DEMAND, RHEL_KEY, rhelPolicy } from '../../support/policies.ts';

const unavailable = await mountNodesUnavailable();
const AGENT = 'registry.redhat.io/multicluster-engine/agent';
const TOOL = 'quay.io/example/tool';
const DROP_IN = '/etc/containers/registries.conf.d/50-prestage.conf';
const PLACES = '/etc/containers/registries.d/50-prestage.yaml';
const LOOKASIDE = '/run/prestage-agent/lookaside';
describe('a node whose policy demands GPG signatures', { skip: unavailable ?? false }, () => {
  let fixture: MountFixture;
  let data: DataDisk;
  let key: GpgKey;
  let other: GpgKey;
  let agent: MadeImage;
  let useless: Buffer;
  let message: Buffer;
  let layout: DataDisk;

  before(async () => {
    fixture = await makeMountFixture(['oci']);
    [key, other] = [await makeGpgKey(), await makeGpgKey()];
    const base = fixture.images.tag.instances[0]?.layers[0];
    assert.ok(base);
    const own = await makeLayer(fixture.blobs, named('agent'));
    agent = await makeImage(fixture.blobs, { name: AGENT, tag: 'v1', format: 'docker', layers: [base, own] });
    const all = [...fixture.all, agent];
    const pulled = join(fixture.work, 'gpg-pulled');
    await mkdir(pulled);
    await writeOciLayout(fixture.blobs, all, pulled);
    for (const list of ['ai-images.txt', 'ocp-images.txt']) await writeFile(join(pulled, list), listOf(all));
    useless = await other.sign(agent.digest, `${AGENT}:v1`);
    message = await key.sign(agent.digest, `${AGENT}:v1`);
    const { list, tag } = fixture.images;
    const [instance] = list.instances;
    assert.ok(instance);
    const { digest } = instance.manifest;
    await addGpgSignatures(pulled, [
      // The first is of no use, so engines have to go on to the second.
      { repository: AGENT, subject: agent.digest, messages: [useless, message] },
      { repository: TOOL, subject: digest, messages: [await key.sign(digest, `${TOOL}:signed`)] },
      { repository: TOOL, subject: tag.digest, messages: [await key.sign(tag.digest, tag.reference)] },
    ]);
    const bundle = join(fixture.work, 'gpg');
    await runBuild({ from: pulled, to: bundle, payloads: ['store', 'registry', 'oci'] });
    data = await makeDataDisk({ work: fixture.work, bundle });
    const alone = join(fixture.work, 'layout');
    await runBuild({ from: pulled, to: alone, payloads: ['oci'] });
    layout = await makeDataDisk({ work: fixture.work, bundle: alone });
  });
  after(async () => {
    await data?.[Symbol.asyncDispose]();
    await layout?.[Symbol.asyncDispose]();
    await fixture?.[Symbol.asyncDispose]();
    await key?.[Symbol.asyncDispose]();
    await other?.[Symbol.asyncDispose]();
  });

  /** As RHEL has it, for one repository more. */
  const rhel = async (node: MountNode, { publicKey }: GpgKey): Promise<void> => {
    const registries = ['registry.access.redhat.com', 'registry.redhat.io', TOOL];
    await putPolicy(node, Object.fromEntries(registries.map((scope) => [scope, RHEL_DEMAND])));
    await putFile(node, RHEL_KEY, publicKey);
    await putFile(node, '/etc/containers/registries.d/registry.redhat.io.yaml', rhelPolicy.signatures);
  };
  const textAt = async (node: MountNode, path: string): Promise<string> => await readFile(node.path(path), 'utf8').catch(() => '');
  const pull = async (node: MountNode, name: string) => {
    const conf = '/run/prestage-agent/storage.conf';
    const env = existsSync(node.path(conf)) ? { CONTAINERS_STORAGE_CONF: conf } : {};
    return await node.exec('podman', ['pull', name], { env });
  };
  const mirrored = async (node: MountNode): Promise<readonly string[]> =>
    [...(await textAt(node, DROP_IN)).matchAll(/^prefix = "(.*)"$/gm)].map(([, prefix = '']) => prefix);
  const withheldOf = (state: { readonly withheld?: { readonly message: string } | undefined }): string => state.withheld?.message ?? '';

  for (const [stage, delivery] of [
    ['discovery', 'mount'],
    ['installed', 'mount'],
    ['discovery', 'registry'],
    ['installed', 'registry'],
  ] as const) {
    const args = (): readonly string[] => ['--stage', stage, '--delivery', delivery, '--label', data.label];

    it(`has podman pull offline in ${stage} by ${delivery}, refuses another key, and gives all back`, async () => {
      await using node = await openMountNode(fixture);
      await rhel(node, key);
      const { exitCode, state, stderr } = await node.run(args());
      assert.deepEqual([exitCode, state.outcome, state.withheld], [0, 'complete', undefined], stderr);
      for (const repository of [TOOL, AGENT]) assert.ok((await mirrored(node)).includes(repository), repository);
      assert.equal(
        await textAt(node, PLACES),
        `${OWNED_MARK}\n# Signatures lie beside the images that the registries of prestage-agent serve.\ndocker:\n  "127.0.0.1:305":\n    use-sigstore-attachments: true\n    lookaside: "file://${LOOKASIDE}"\n`,
      );
      const file = node.path(join(LOOKASIDE, lookasidePath(AGENT, agent.digest, 2)));
      assert.deepEqual(await readFile(file), message);
      assert.deepEqual([(await stat(file)).mode & 0o777, (await stat(dirname(file))).mode & 0o777], [0o644, 0o755]);
      for (const name of [`${AGENT}:v1`, `${TOOL}@${fixture.images.list.digest}`]) {
        const pulled = await pull(node, name);
        assert.equal(pulled.exitCode, 0, pulled.stderr);
      }
      // The policy does decide: with another key the same pull is refused.
      await putFile(node, RHEL_KEY, other.publicKey);
      const refused = await pull(node, `${TOOL}@${fixture.images.list.digest}`);
      assert.notEqual(refused.exitCode, 0);
      assert.match(refused.stderr, /rejected|signature/i);
      await putFile(node, RHEL_KEY, key.publicKey);
      const again = await node.run(args());
      assert.deepEqual([again.exitCode, again.state.withheld], [0, undefined], again.stderr);
      await node.output(fixture.executable, ['release', '--yes']);
      assert.deepEqual([await textAt(node, PLACES), existsSync(node.path(LOOKASIDE))], ['', false]);
    });
  }

  it('gets no mirror of what is signed by another key, or if another file keeps engines from our lookaside', async () => {
    await using node = await openMountNode(fixture);
    await rhel(node, other);
    const args = ['--stage', 'installed', '--delivery', 'registry', '--label', data.label];
    const { state } = await node.run(args);
    assert.match(withheldOf(state), /the signature was made with another key/);
    assert.equal((await mirrored(node)).includes(TOOL), false);
    await putFile(node, RHEL_KEY, key.publicKey);
    const sources = 'docker:\n  "127.0.0.1:305":\n    use-sigstore-attachments: true\n';
    await putFile(node, '/etc/containers/registries.d/10-other.yaml', sources);
    const beside = await node.run(args);
    assert.match(withheldOf(beside.state), /the policy requires a GPG signature, but the image has none/);
    assert.ok(
      beside.state.notices.includes(
        `engines do not look for GPG signatures of images from the registry of this node: /etc/containers/registries.d/10-other.yaml has the key "127.0.0.1:305" without "lookaside: file://${LOOKASIDE}"`,
      ),
      beside.state.notices.join('\n'),
    );
    await putFile(node, '/etc/containers/registries.d/10-other.yaml', `${sources}    lookaside: file://${LOOKASIDE}\n`);
    const led = await node.run(args);
    assert.deepEqual([led.state.withheld, await textAt(node, PLACES)], [undefined, ''], led.stderr);
  });

  it('leaves a damaged signature out, says so, and the next in line takes its number', async () => {
    await data.change(async (top) => await writeFile(join(top, signaturePath(digestOf(useless))), 'other bytes'));
    try {
      await using node = await openMountNode(fixture);
      await rhel(node, key);
      const { state, stderr } = await node.run(['--stage', 'installed', '--delivery', 'registry', '--label', data.label]);
      assert.equal(state.withheld, undefined, stderr);
      assert.match(stderr, /agent:v1 is served without a GPG signature: .* it has the digest /);
      assert.deepEqual(await readFile(node.path(join(LOOKASIDE, lookasidePath(AGENT, agent.digest, 1)))), message);
    } finally {
      await data.restore();
    }
  });

  it('pulls under the policy from a tree that was made of an OCI layout', async () => {
    await using node = await openMountNode(fixture);
    await rhel(node, key);
    const args = ['--stage', 'installed', '--delivery', 'registry', '--label', layout.label];
    const { state, stderr } = await node.run([...args, '--registry-image', fixture.images.registry.reference]);
    assert.deepEqual([state.outcome, state.payload, state.withheld], ['complete', 'oci', undefined], stderr);
    const pulled = await pull(node, `${AGENT}:v1`);
    assert.equal(pulled.exitCode, 0, pulled.stderr);
  });
});
