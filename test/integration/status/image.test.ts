import assert from 'node:assert/strict';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Ajv } from 'ajv';
import type { PayloadKind } from '../../../agent/factory/compose/plan.ts';
import { digestOf } from '../../../agent/model/digest.ts';
import type { ImageReport } from '../../../agent/status/image-answer.ts';

import { listOf, runBuild } from '../../support/build.ts';
import { TOP } from '../../support/cache.ts';
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
import { POLICY_FILE, policyText, putFile, putPolicy, sigstoreDemand } from '../../support/policies.ts';
import { attachSignatures, makeSigningKey, payloadOf } from '../../support/signing.ts';

const unavailable = await mountNodesUnavailable();
const TOOL = 'quay.io/example/tool';
const COMPONENT = 'quay.io/example/component';
const NOBODY = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];

describe('status of one image', { skip: unavailable ?? false }, () => {
  let fixture: MountFixture;
  let data: DataDisk;
  const key = makeSigningKey('rsa');
  const validate = async (): Promise<(report: unknown) => string> => {
    const ajv = new Ajv({ allErrors: true });
    const check = ajv.compile(JSON.parse(await readFile(join(TOP, 'docs/image-status.schema.json'), 'utf8')));
    return (report) => (check(report) ? 'valid' : ajv.errorsText(check.errors));
  };

  before(async () => {
    fixture = await makeMountFixture(['oci']);
    const { tag, list } = fixture.images;
    const attachments = [
      ...(await attachSignatures(fixture.blobs, tag, { key, reference: tag.reference })),
      ...(await attachSignatures(fixture.blobs, list, { key, reference: `${TOOL}:list` })),
    ];
    const pulled = join(fixture.work, 'signed-pulled');
    await mkdir(pulled);
    await writeOciLayout(fixture.blobs, [...fixture.all, ...attachments], pulled);
    await writeFile(join(pulled, 'ocp-images.txt'), listOf(fixture.all));
    const bundle = join(fixture.work, 'signed');
    const payloads: readonly PayloadKind[] = ['registry', 'oci'];
    await runBuild({ from: pulled, to: bundle, payloads });
    data = await makeDataDisk({ work: fixture.work, bundle });
  });
  after(async () => {
    await data?.[Symbol.asyncDispose]();
    await fixture?.[Symbol.asyncDispose]();
  });

  const ask = async (node: MountNode, reference: string, user: readonly string[] = []): Promise<ImageReport['image']> => {
    const [program, ...args] = user.length > 0 ? ['setpriv', ...user, fixture.executable] : [fixture.executable];
    const ended = await node.exec(program, [...args, 'status', '--image', reference, '--output', 'json'], { env: { HOME: '/root' } });
    const report: ImageReport = JSON.parse(ended.stdout);
    assert.deepEqual([(await validate())(report), ended.exitCode], ['valid', report.image.exitCode], ended.stderr);
    return report.image;
  };
  const serve = async (node: MountNode): Promise<void> => {
    const { exitCode, stderr } = await node.run(['--stage', 'installed', '--delivery', 'registry', '--label', data.label]);
    assert.equal(exitCode, 0, stderr);
  };

  it('says what podman of today does under each policy, and by which entry and signature', async () => {
    await using node = await openMountNode(fixture, { usr: await nodeUsr() });
    const { reference, manifest } = fixture.images.tag;
    await putPolicy(node, { [TOOL]: sigstoreDemand(key) });
    await serve(node);
    const pulls = async (): Promise<boolean> => (await node.podman('pull', reference)).exitCode === 0;
    const mirror = `127.0.0.1:305/${reference}`;
    const unsigned = fixture.images.digest.reference;
    const refusal = async (name = reference): Promise<readonly unknown[]> => {
      const { verdict, exitCode, reason } = await ask(node, name);
      return [verdict, exitCode, reason];
    };

    assert.deepEqual(await ask(node, reference), {
      reference,
      verdict: 'taken',
      reason: `a pull takes it from the mirror ${mirror}`,
      nextStep: 'Nothing to do',
      exitCode: 0,
      from: { kind: 'mirror', name: mirror },
      stored: false,
      places: [{ name: mirror, kind: 'mirror', answer: { kind: 'has', digest: manifest.digest } }],
      policies: [
        {
          file: POLICY_FILE,
          engines: ['podman', 'CRI-O'],
          scope: TOOL,
          verdict: {
            kind: 'accepted',
            signatures: [{ by: 'sigstore', name: reference, digest: digestOf(payloadOf(manifest.digest, reference)) }],
          },
        },
      ],
    });
    const none = 'the policy requires a sigstore signature, but the image has none';
    assert.equal(await pulls(), true);
    assert.equal((await ask(node, reference)).stored, true);
    await node.podman('rmi', reference);

    await putPolicy(node, { [TOOL]: sigstoreDemand(makeSigningKey()) });
    assert.deepEqual(await refusal(), [
      'refused',
      13,
      `podman and CRI-O would refuse it because of ${POLICY_FILE}, "${TOOL}": the signature was made with another key`,
    ]);
    assert.equal(await pulls(), false);

    await putPolicy(node, JSON.stringify({ default: [{ type: 'reject' }] }));
    assert.deepEqual(await refusal(), [
      'refused',
      13,
      `podman and CRI-O would refuse it because of ${POLICY_FILE}, "default": the policy rejects every image of this name`,
    ]);
    assert.equal(await pulls(), false);

    await rm(node.path(POLICY_FILE));
    assert.deepEqual(await refusal(), [
      'refused',
      13,
      `podman and CRI-O would refuse it because of ${POLICY_FILE}: the file does not exist, and without it engines refuse every pull`,
    ]);
    assert.equal(await pulls(), false);

    await putPolicy(node, {});
    assert.deepEqual((await ask(node, unsigned)).policies[0]?.verdict, { kind: 'accepted', signatures: [] });
    await putFile(node, '/etc/crio/policies/team.json', policyText({ [COMPONENT]: sigstoreDemand(key) }));
    assert.deepEqual(await refusal(unsigned), [
      'refused',
      13,
      `CRI-O (pods of the namespace team) would refuse it because of /etc/crio/policies/team.json, "${COMPONENT}": ${none}`,
    ]);
    assert.equal((await ask(node, reference)).verdict, 'taken');
    await putFile(node, '/etc/crio/policies/team.json', '{');
    assert.equal((await ask(node, reference)).verdict, 'refused');
  });

  it('calls unknown what was not looked at: the source, and what this user may not see', async () => {
    await using node = await openMountNode(fixture);
    await putPolicy(node, {});
    await serve(node);
    const other = 'quay.io/other/image:1';
    assert.deepEqual(await ask(node, other), {
      reference: other,
      verdict: 'unknown',
      reason: `${other} was not checked: it is not a registry that the agent set up for this node`,
      nextStep: 'Test it with a pull: podman pull',
      exitCode: 12,
      stored: false,
      places: [
        {
          name: other,
          kind: 'source',
          answer: {
            kind: 'unseen',
            reason: `${other} was not checked: it is not a registry that the agent set up for this node`,
            remedy: 'Test it with a pull: podman pull',
          },
        },
      ],
      policies: [{ file: POLICY_FILE, engines: ['podman', 'CRI-O'], scope: 'default', verdict: { kind: 'accepted', signatures: [] } }],
    });
    const { verdict, exitCode, unseen, nextStep } = await ask(node, fixture.images.tag.reference, NOBODY);
    assert.deepEqual([verdict, exitCode, nextStep], ['unknown', 12, 'Run it as root: sudo prestage-agent status']);
    assert.deepEqual(unseen, [{ what: 'the registries that a pull asks', reason: 'this user may not read it' }]);
  });

  it('calls absent what a blocked source alone could have', async () => {
    await using node = await openMountNode(fixture);
    await putPolicy(node, {});
    await putFile(node, '/etc/containers/registries.conf.d/90-block.conf', '[[registry]]\nlocation = "quay.io/other"\nblocked = true\n');
    const { verdict, exitCode, reason } = await ask(node, 'quay.io/other/image');
    assert.deepEqual(
      [verdict, exitCode, reason],
      ['absent', 4, 'no source or mirror has it: quay.io/other/image:latest: blocked by /etc/containers/registries.conf.d/90-block.conf'],
    );
    const wrong = await node.agent(['status', '--image', 'Quay.io/Other']);
    assert.equal(wrong.exitCode, 2);
    assert.match(wrong.stderr, /is not an image reference[\s\S]*ERR_USAGE/);
    assert.equal((await node.agent(['status', '--image', 'a', '--watch'])).exitCode, 2);
  });
});
