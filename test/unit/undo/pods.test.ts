import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { judgePods, type PodFacts } from '../../../agent/undo/pods.ts';

const FACTS: PodFacts = {
  pods: [
    { id: 'p1', name: 'shop/web' },
    { id: 'p2', name: 'shop/db' },
  ],
  areRunning: true,
  hasKubelet: false,
  crictl: { kind: 'answers' },
};
const refusalOf = (facts: Partial<PodFacts>) => {
  const verdict = judgePods({ ...FACTS, ...facts });
  return verdict.kind === 'refuse' ? [verdict.error.code, verdict.error.message, verdict.error.remedy] : verdict.kind;
};

describe('pods that stand on the store image', () => {
  it('are no matter where there are none', () => assert.equal(refusalOf({ pods: [], hasKubelet: true }), 'leave'));
  it('are ended where CRI-O answers', () => assert.equal(refusalOf({}), 'end'));
  it('are left to podman where no CRI-O is there to know them and nothing of them runs', () =>
    assert.equal(refusalOf({ crictl: { kind: 'no-crio' }, areRunning: false }), 'leave'));

  it('are a refusal while the kubelet would start them again', () =>
    assert.deepEqual(refusalOf({ hasKubelet: true }), [
      'ERR_STORE_PODS',
      'shop/web, shop/db: these pods depend on the store image, and the kubelet would start them again',
      'Drain the node first, then stop the kubelet (systemctl stop kubelet), and run prestage-agent release again',
    ]));

  it('are a refusal where CRI-O does not answer', () =>
    assert.deepEqual(
      refusalOf({ crictl: { kind: 'silent', reason: 'crictl version failed with exit code 1: no such socket' }, areRunning: false }),
      [
        'ERR_STORE_PODS',
        'shop/web, shop/db: these pods depend on the store image, and CRI-O cannot be asked to end them: crictl version failed with exit code 1: no such socket',
        'Drain the node first, then end the pods (crictl rmp --force --all), and run prestage-agent release again',
      ],
    ));

  it('are a refusal where they run on without CRI-O', () =>
    assert.deepEqual(refusalOf({ crictl: { kind: 'no-crio' } }), [
      'ERR_STORE_PODS',
      'shop/web, shop/db: these pods run from the store image, but CRI-O, which could end them, is not running',
      'Drain the node first, start CRI-O (systemctl start crio), end the pods (crictl rmp --force --all), then run prestage-agent release again',
    ]));
});
