import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fieldFile } from './ignition.ts';
import type { NodeSandbox } from './sandbox.ts';
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

/** A demand for a GPG signature of that key. */
export const RHEL_DEMAND = { type: 'signedBy', keyType: 'GPGKeys', keyPath: RHEL_KEY } as const;

/** What RHEL itself demands, which is in force on the live ISO: GPG signatures, which lie apart from the registry. Source: containers-common of RHEL 9. */
export const rhelPolicy: Required<ClusterPolicy> = {
  policy: policyText({ 'registry.access.redhat.com': RHEL_DEMAND, 'registry.redhat.io': RHEL_DEMAND }),
  signatures: 'docker:\n  registry.redhat.io:\n    lookaside: https://registry.redhat.io/containers/sigstore\n',
};

export const POLICY_FILE = '/etc/containers/policy.json';

/** A demand for a signature that was made with a key, as cosign makes them. */
export function sigstoreDemand({ publicPem }: Pick<SigningKey, 'publicPem'>): object {
  return { type: 'sigstoreSigned', keyData: publicPem.toString('base64') };
}

/** Text of a policy.json that has one demand for each of some scopes of registries, and accepts the rest. */
export function policyText(demands: Readonly<Record<string, object>>): string {
  const docker = Object.fromEntries(Object.entries(demands).map(([scope, demand]) => [scope, [demand]]));
  return JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }], transports: { docker } });
}

/** Puts a policy on a node. @param demands as policyText takes them, or the text itself */
export async function putPolicy(node: Pick<NodeSandbox, 'path'>, demands: Readonly<Record<string, object>> | string): Promise<void> {
  await putFile(node, POLICY_FILE, typeof demands === 'string' ? demands : policyText(demands));
}

/** Puts a file on a node, by its path there. */
export async function putFile(node: Pick<NodeSandbox, 'path'>, path: string, content: string | Buffer): Promise<void> {
  await mkdir(dirname(node.path(path)), { recursive: true });
  await writeFile(node.path(path), content);
}
