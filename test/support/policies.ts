import { fieldFile } from './ignition.ts';
import type { SigningKey } from './signing.ts';

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

/** Where RHEL keeps the key by which Red Hat signs images. */
export const RHEL_KEY = '/etc/pki/rpm-gpg/RPM-GPG-KEY-redhat-release';

/** What RHEL itself demands, which is in force on the live ISO: GPG signatures, which lie apart from the registry. Source: containers-common of RHEL 9. */
export const rhelPolicy: Required<ClusterPolicy> = {
  policy: JSON.stringify({
    default: [{ type: 'insecureAcceptAnything' }],
    transports: {
      docker: Object.fromEntries(
        ['registry.access.redhat.com', 'registry.redhat.io'].map((scope) => [
          scope,
          [{ type: 'signedBy', keyType: 'GPGKeys', keyPath: RHEL_KEY }],
        ]),
      ),
    },
  }),
  signatures: 'docker:\n  registry.redhat.io:\n    lookaside: https://registry.redhat.io/containers/sigstore\n',
};
