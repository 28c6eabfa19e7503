import { fieldFile } from '../support/ignition.ts';
import type { SigningKey } from '../support/signing.ts';

/** What a cluster has the Machine Config Operator put on its nodes, by which engines refuse images. */
export interface ClusterPolicy {
  /** Text of policy.json. */
  readonly policy: string;
  /** Text of the operator's file in registries.d: where the signatures of which images are. */
  readonly signatures?: string;
}

const PLACEHOLDER = 'BASE64-OF-PEM';
const SCOPES = ['ocp-release', 'ocp-v4.0-art-dev', 'ocp-v5.0-art-dev'].map((name) => `quay.io/openshift-release-dev/${name}`);

/** The policy of OpenShift 4.22, as the operator renders it where its text lies beside the checkout, with the key of a test. */
export function releasePolicy({ publicPem }: SigningKey): ClusterPolicy {
  const policy = fieldFile('mco/policy-4.22-rendered.json') ?? JSON.stringify(standIn());
  const signatures = Object.fromEntries(SCOPES.map((scope) => [scope, { 'use-sigstore-attachments': true }]));
  return { policy: policy.replaceAll(PLACEHOLDER, publicPem.toString('base64')), signatures: JSON.stringify({ docker: signatures }) };
}

function standIn() {
  const demand = { type: 'sigstoreSigned', keyData: PLACEHOLDER, signedIdentity: { type: 'matchRepoDigestOrExact' } };
  const scopes = Object.fromEntries(SCOPES.map((scope) => [scope, [demand]]));
  return {
    default: [{ type: 'insecureAcceptAnything' }],
    transports: { 'docker-daemon': { '': [{ type: 'insecureAcceptAnything' }] }, atomic: scopes, docker: scopes },
  };
}

/** Of a cluster with allowedRegistries: images of these are accepted, and nothing else is, whatever it comes from. */
export const allowedRegistries: ClusterPolicy = {
  policy: JSON.stringify({
    default: [{ type: 'reject' }],
    transports: {
      'docker-daemon': { '': [{ type: 'insecureAcceptAnything' }] },
      docker: Object.fromEntries(['quay.io', 'registry.redhat.io'].map((name) => [name, [{ type: 'insecureAcceptAnything' }]])),
    },
  }),
};
