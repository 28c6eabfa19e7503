import { readdir, stat } from 'node:fs/promises';
import { ifMissing } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import { readConfiguration } from '../host/read-configuration.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { type Policy, parsePolicy } from './policy.ts';

/** The policy of every engine. */
export const POLICY_FILE = '/etc/containers/policy.json';
/** The policy of the vendor, which engines read if the administrator has not written one. Source: containers-common from podman 6 on. */
const VENDOR_POLICY = '/usr/share/containers/policy.json';
/** If it exists, podman and skopeo read it for root instead. */
export const PERSONAL_POLICY = '/root/.config/containers/policy.json';
/** CRI-O reads NAMESPACE.json for the images of a namespace, and the common policy if that file is missing. Source: crio.conf(5), signature_policy_dir. */
const NAMESPACE_POLICIES = '/etc/crio/policies';

/** The signature policies of the engines of a node. */
export interface NodePolicies {
  readonly policies: readonly Policy[];
  /** Policies that cannot be read. Engines that use them refuse every pull. */
  readonly faults: readonly ErrorRecord[];
}

/** Reads all policies that an engine of the node can follow. Missing files are skipped. */
export async function readNodePolicies(host: Host): Promise<NodePolicies> {
  const files = [(await commonPolicy(host)) ?? POLICY_FILE, PERSONAL_POLICY, ...(await namespacePolicies(host)).map(({ file }) => file)];
  const read = await Promise.all(files.map(async (file) => await readPolicy(host, file)));
  return {
    policies: read.flatMap((one) => (one !== undefined && 'scopes' in one ? [one] : [])),
    faults: read.flatMap((one) => (one !== undefined && 'code' in one ? [one] : [])),
  };
}

/** The file of the policy for all engines without a more specific one; undefined if there is none. */
export async function commonPolicy(host: Host): Promise<string | undefined> {
  for (const file of [POLICY_FILE, VENDOR_POLICY]) if (await isThere(host, file)) return file;
  return undefined;
}

/**
 * The error for a machine without a policy, on which engines refuse every pull. Returns nothing for another root, because the engines of this machine
 * do not read policies there.
 */
export async function missingPolicy(host: Host): Promise<ErrorRecord | undefined> {
  if (host.root !== '/' || (await commonPolicy(host)) !== undefined) return undefined;
  const who = (await isThere(host, PERSONAL_POLICY)) ? 'CRI-O refuses' : 'engines refuse';
  return errorRecord(
    new PrestageError(
      'ERR_POLICY_MISSING',
      `${POLICY_FILE} is missing, and without it ${who} every pull, from our mirrors and from anywhere else`,
      `Restore ${POLICY_FILE}, which the Machine Config Operator writes on a node; this content accepts all images: {"default": [{"type": "insecureAcceptAnything"}]}`,
    ),
  );
}

async function isThere(host: Host, file: string): Promise<boolean> {
  return await stat(hostPath(host, file)).then(
    () => true,
    ifMissing(() => false),
  );
}

/** The policies of CRI-O for single namespaces, sorted by file name. */
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
    return { code: 'ERR_POLICY_FILE', message: `${file} cannot be read: ${message}`, remedy: 'Run the command again with sudo' };
  }
}
