import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runBuild } from '../../support/build.ts';
import { type Cosign, makeCosign } from '../../support/cosign.ts';
import {
  type DataDisk,
  type MountFixture,
  makeDataDisk,
  makeMountFixture,
  mountNodesUnavailable,
  openMountNode,
} from '../../support/mount-node.ts';
import { nodeUsr } from '../../support/podman-service.ts';
import { putPolicy, sigstoreDemand } from '../../support/policies.ts';
import { tryPull } from '../../support/pulls.ts';
import { type Registry, startRegistry } from '../../support/registry.ts';

const unavailable = await mountNodesUnavailable();

/** From the signature in a registry to the pull of a node that is offline, by the programs that people use. */
describe('an image that cosign has signed', { skip: unavailable ?? false }, () => {
  let fixture: MountFixture;
  let registry: Registry;
  let cosign: Cosign;
  let disk: DataDisk;
  let reference: string;
  before(async () => {
    fixture = await makeMountFixture(['oci']);
    registry = await startRegistry({ isWritable: true });
    cosign = await makeCosign(join(fixture.work, 'cosign'));
    const { tag, registry: serving } = fixture.images;
    const references = await registry.add(fixture.blobs, [tag, serving]);
    [reference = ''] = references;
    await cosign.sign(`${reference.slice(0, reference.lastIndexOf(':'))}@${tag.digest}`, reference);
    const [pulled, bundle] = [join(fixture.work, 'pulled'), join(fixture.work, 'signed')];
    const { report } = await tryPull(pulled, references, { signatures: 'auto' });
    assert.deepEqual([report.outcome, report.images[0]?.signed], ['complete', [tag.digest]], JSON.stringify(report));
    await writeFile(join(pulled, 'ocp-images.txt'), references.map((one) => `${one}\n`).join(''));
    await runBuild({ from: pulled, to: bundle, payloads: ['registry'] });
    disk = await makeDataDisk({ work: fixture.work, bundle });
  });
  after(async () => {
    await disk?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
    await fixture?.[Symbol.asyncDispose]();
  });

  it('is pulled offline under a policy with the key, and not under one with another key', async () => {
    const other = await makeCosign(join(fixture.work, 'other'));
    for (const { publicKey, isTaken } of [
      { publicKey: cosign.publicKey, isTaken: true },
      { publicKey: other.publicKey, isTaken: false },
    ]) {
      await using node = await openMountNode(fixture, { usr: await nodeUsr() });
      await putPolicy(node, { [reference.slice(0, reference.lastIndexOf(':'))]: sigstoreDemand({ publicPem: Buffer.from(publicKey) }) });
      const run = await node.run(['--stage', 'installed', '--delivery', 'registry', '--label', disk.label]);
      assert.equal(run.exitCode, 0, run.stderr);
      assert.deepEqual([run.state.withheld?.code, (await node.status()).exitCode], isTaken ? [undefined, 0] : ['ERR_MIRROR_UNSIGNED', 13]);
      assert.equal((await node.exec('podman', ['pull', reference])).exitCode === 0, isTaken);
    }
  });
});
