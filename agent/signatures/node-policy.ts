import { readdir } from 'node:fs/promises';
import { type Host, hostPath } from '../host/host.ts';
import { ifMissing } from '../host/if-missing.ts';
import { readConfiguration } from '../host/read-configuration.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { type Policy, parsePolicy } from './policy.ts';

/** The policy of every engine. */
export const POLICY_FILE = '/etc/containers/policy.json';
/** If it exists, podman and skopeo read it for root instead. */
export const PERSONAL_POLICY = '/root/.config/containers/policy.json';
/** CRI-O reads NAMESPACE.json for the images of a namespace, and the policy of all for those without. Source: crio.conf(5), signature_policy_dir. */
const NAMESPACE_POLICIES = '/etc/crio/policies';

/** What the engines of a node demand of images. */
export interface NodePolicies {
  readonly policies: readonly Policy[];
  /** Policies that cannot be read: whatever they say, engines that read them refuse every pull. */
  readonly faults: readonly ErrorRecord[];
}

/** Reads all policies that an engine of the node can go by. Files that are missing say nothing. */
export async function readNodePolicies(host: Host): Promise<NodePolicies> {
  const files = [POLICY_FILE, PERSONAL_POLICY, ...(await namespacePolicies(host)).map(({ file }) => file)];
  const read = await Promise.all(files.map(async (file) => await readPolicy(host, file)));
  return {
    policies: read.flatMap((one) => (one !== undefined && 'scopes' in one ? [one] : [])),
    faults: read.flatMap((one) => (one !== undefined && 'code' in one ? [one] : [])),
  };
}

/** The policies that CRI-O has for single namespaces, sorted. */
export async function namespacePolicies(host: Host): Promise<readonly { readonly namespace: string; readonly file: string }[]> {
  const names = await readdir(hostPath(host, NAMESPACE_POLICIES)).catch(ifMissing(() => []));
  return names
    .filter((name) => name.endsWith('.json'))
    .toSorted()
    .map((name) => ({ namespace: name.slice(0, -'.json'.length), file: `${NAMESPACE_POLICIES}/${name}` }));
}

async function readPolicy(host: Host, file: string): Promise<Policy | ErrorRecord | undefined> {
  try {
    const text = await readConfiguration(host, file);
    return text === undefined ? undefined : parsePolicy(text, file);
  } catch (error) {
    if (error instanceof PrestageError) return errorRecord(error);
    const { message } = errorRecord(error);
    return { code: 'ERR_POLICY_FILE', message: `${file} cannot be read: ${message}`, remedy: 'Give it again with sudo' };
  }
}
