import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { isCoveredByOpenshift, OPENSHIFT_KEY, openshiftPolicy } from '../../../agent/signatures/openshift.ts';
import { TOP } from '../../support/cache.ts';

const RELEASE = 'quay.io/openshift-release-dev/ocp-release';
const COMPONENTS = 'quay.io/openshift-release-dev/ocp-v4.0-art-dev';

test('a release has the policy of the newest release that is not newer, and what is not a release has none', () => {
  const scopesOf = (release: string): readonly string[] => [...(openshiftPolicy(release)?.scopes.keys() ?? [])];
  for (const release of ['4.20.9', '3.11.0', '', 'latest', '4', '4.22x']) assert.deepEqual(scopesOf(release), [], release);
  for (const release of ['4.21', '4.21.0-rc.1', '4.21.7']) assert.deepEqual(scopesOf(release), [RELEASE], release);
  for (const release of ['4.22.0', '4.23.1', '5.0.0', '10.1']) assert.equal(scopesOf(release).includes(COMPONENTS), true, release);
});

test('images of the policy are known whatever the release, and others are not', () => {
  assert.equal(isCoveredByOpenshift(`${RELEASE}:4.20.1-x86_64`), true);
  assert.equal(isCoveredByOpenshift(`${COMPONENTS}@sha256:${'a'.repeat(64)}`), true);
  assert.equal(isCoveredByOpenshift('quay.io/openshift-release-dev/other:1'), false);
});

test('the key of the policy is an RSA key of 4096 bits', () => {
  const key = createPublicKey(OPENSHIFT_KEY);
  assert.deepEqual([key.asymmetricKeyType, key.asymmetricKeyDetails?.modulusLength], ['rsa', 4096]);
});

test('scopes and key are those of the real objects, as far as these lie beside the checkout', () => {
  for (const release of ['4.21', '4.22']) {
    const path = join(TOP, '../shared/data/openshift', `cluster-image-policy-${release}.yaml`);
    if (!existsSync(path)) continue;
    const { spec } = parse(readFileSync(path, 'utf8'));
    assert.deepEqual([...(openshiftPolicy(release)?.scopes.keys() ?? [])], spec.scopes);
    const real = createPublicKey(Buffer.from(spec.policy.rootOfTrust.publicKey.keyData, 'base64'));
    assert.ok(real.equals(createPublicKey(OPENSHIFT_KEY)));
  }
});
